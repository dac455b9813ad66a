"""The `logitchain` command: what it prints, and with which status it ends."""

import json

import numpy as np
import pytest

import logitchain as lc
from logitchain.__main__ import main
from logitchain.warmup import kernels

LOGITS = [1.0, 2.0, 3.0, 0.0]
BODY = {"messages": [], "temperature": 0.5, "top_k": 2, "seed": 1}


@pytest.fixture
def saved(tmp_path):
    """A function that saves a value under a name and returns the path."""

    def save(name, value):
        path = tmp_path / name
        if name.endswith(".npy"):
            np.save(path, value)
        else:
            path.write_text(json.dumps(value))
        return str(path)

    return save


def expected(order, logits=LOGITS, prompt=(), output=(), **fields):
    """The same explanation through the library."""
    batch = lc.Batch(len(logits))
    (row,) = batch.add(lc.Params.from_request({**BODY, **fields}), prompt, output)
    return lc.Chain(order).explain(logits, batch, row)


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"logitchain {lc.__version__}\n"


@pytest.mark.parametrize("name", ["row.npy", "row.json"])
def test_a_saved_row_is_explained(saved, capsys, name):
    row = np.array(LOGITS, np.float16) if name.endswith(".npy") else LOGITS
    assert main(["explain", saved(name, row), saved("body.json", BODY), "--token", "0"]) == 0
    explanation = expected(lc.DEFAULT_ORDER)
    assert capsys.readouterr().out == f"{explanation}\ntoken 0: removed by top_k\n"


def test_a_program_can_read_it(saved, capsys):
    words = ["explain", saved("row.npy", LOGITS), saved("body.json", BODY), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == expected(lc.DEFAULT_ORDER).as_dict()


def test_history_order_texts_and_row_are_as_given(saved, capsys, tmp_path):
    body = {**BODY, "repetition_penalty": 3.0}
    words = [
        *("explain", saved("rows.npy", [LOGITS[::-1], LOGITS]), saved("body.json", body)),
        *("--row", "1", "--preset", "vllm"),
        *("--prompt", saved("prompt.json", [2]), "--output", saved("output.json", [1, 1])),
        *("--vocab", saved("vocab.json", ["a", "b", "c", "d"])),
        *("--plot", str(tmp_path / "step.png")),
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    explanation = expected(lc.PRESETS["vllm"], prompt=[2], output=[1, 1], repetition_penalty=3.0)
    assert f"picked {'abcd'[explanation.token]!r} (token {explanation.token})" in printed
    assert "position 2, seed 1" in printed
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")


def test_the_body_says_the_order_in_its_dialect(saved, capsys):
    body = {"samplers": ["top_k", "temperature"], "top_k": 2, "seed": 1}
    words = ["explain", saved("row.npy", LOGITS), saved("body.json", body), "--dialect"]
    assert main([*words, "llama_cpp"]) == 0
    assert capsys.readouterr().out.index("top_k") < len(LOGITS) * 100
    assert main([*words, "openai"]) == 2
    assert "unknown field 'samplers' in the request body" in capsys.readouterr().err


def test_a_row_without_a_token_is_explained(saved, capsys):
    body = {"allowed_tokens": [0], "banned_tokens": [0]}
    assert main(["explain", saved("row.npy", LOGITS), saved("body.json", body)]) == 0
    assert "no token, no finite logit is left after banned_tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("logits", "body", "reason"),
    [
        (LOGITS, {"min_p": 1.5}, "min_p must be in [0, 1], not 1.5"),
        (LOGITS, {"top-p": 0.5}, "did you mean 'top_p'?"),
        ([np.nan, 1.0], {}, "logits: row 0, token 0 is nan"),
        (LOGITS, [], "the request body must be a JSON object"),
        ([["a"]], {}, "logits must be floating-point numbers"),
        ([[LOGITS]], {}, "logits must"),
        ([], {}, "vocab_size must"),
    ],
)
def test_what_cannot_be_explained_is_one_line(saved, capsys, logits, body, reason):
    path = saved("row.json", logits)
    assert main(["explain", path, saved("body.json", body)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("logitchain: ")
    assert reason in told.err
    assert told.err.count("\n") == 1


def test_files_that_are_not_there_or_not_json_are_named(saved, capsys, tmp_path):
    row, broken = saved("row.npy", LOGITS), tmp_path / "broken.json"
    broken.write_text("{")
    for path in (tmp_path / "none.json", broken):
        assert main(["explain", row, str(path)]) == 2
        assert path.name in capsys.readouterr().err
    assert main(["explain", row, saved("body.json", {}), "--row", "3"]) == 2
    assert "--row must be in [0, 1), not 3" in capsys.readouterr().err
    assert main(["explain", row, saved("body.json", {}), "--vocab", saved("v.json", ["a"])]) == 2
    assert "--vocab must be a list of 4 texts" in capsys.readouterr().err


def test_a_request_for_several_samples_is_explained_for_one(saved, capsys):
    row, body = saved("row.npy", LOGITS), saved("body.json", {**BODY, "n": 2, "seed": [5, 6]})
    for sample in (0, 1):
        assert main(["explain", row, body, "--sample", str(sample)]) == 0
        assert capsys.readouterr().out == f"{expected(lc.DEFAULT_ORDER, seed=5 + sample)}\n"
    assert main(["explain", row, body, "--sample", "2"]) == 2
    assert "--sample must be in [0, 2), not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"[1", b"[" * 100_000], ids=repr
)
@pytest.mark.parametrize("name", ["row.npy", "row.json"])
def test_a_file_that_holds_something_else_is_one_line(saved, capsys, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["explain", str(path), saved("body.json", BODY)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_logits_are_read_as_the_library_reads_lists(saved, capsys):
    body = saved("body.json", BODY)
    for logits, reason in [([True, False], "bool"), (["1", "2"], "logits"), (3, "a list of")]:
        assert main(["explain", saved("row.json", logits), body]) == 2
        assert reason in capsys.readouterr().err
    assert main(["explain", saved("row.json", [1, 2, 3, 0]), body]) == 0
    bits = np.array(LOGITS, np.float32).view(np.uint32) >> 16
    row = saved("row.npy", bits.astype(np.uint16))
    assert main(["explain", row, body, "--bfloat16"]) == 0
    assert capsys.readouterr().out.endswith(f"{expected(lc.DEFAULT_ORDER)}\n")


def test_json_output_is_one_document(saved, capsys, tmp_path):
    words = ["explain", saved("row.npy", LOGITS), saved("body.json", BODY), "--json"]
    assert main([*words, "--token", "1", "--plot", str(tmp_path / "step.png")]) == 0
    (about,) = json.loads(capsys.readouterr().out)["tokens"]
    assert (about["token"], about["fate"]) == (1, expected(lc.DEFAULT_ORDER).fate(1))


def test_warmup_without_docstrings_says_so(monkeypatch):
    monkeypatch.setattr(lc.top_k, "__doc__", None)
    with pytest.raises(RuntimeError, match="python -OO"):
        kernels()["top_k"]()
