"""The playground without a browser: its answers are the library's, and its work is bounded."""

import http.client
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from driving import EXAMPLES
from numpy.testing import assert_array_equal

import logitchain as lc
from logitchain.controls import CONTROLS

PROMPT = "Tell me about whales."
BODY = {"temperature": 0.9, "top_p": 0.95, "xtc_probability": 1.0, "xtc_threshold": 0.1, "seed": 3}
DEFAULT = [[name, {}] for name in lc.DEFAULT_ORDER]


@pytest.fixture
def ask(served):
    """Sends a request: (status, JSON, headers)."""

    def send(path, body=None, method="", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        headers = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        is_json = "json" in response.getheader("content-type", "")
        return response.status, json.loads(text) if is_json else text.decode(), response.headers

    return send


def setting(body=BODY, output=(), order=DEFAULT):
    return {"body": body, "order": order, "output": list(output)}


def question(*settings, prompt=PROMPT, tokens=()):
    return {"prompt": prompt, "settings": list(settings or [setting()]), "tokens": list(tokens)}


@pytest.fixture
def prompt(model):
    return model.tokenizer.chat([{"role": "user", "content": PROMPT}])


# ---- what it says is what the library says


@pytest.mark.parametrize("name", ["default", "llama_cpp", "vllm"])
def test_an_answer_is_the_librarys_explanation(ask, model, prompt, name):
    steps = lc.Chain().steps if name == "default" else lc.Chain.preset(name).steps
    presets = ask("/catalogue")[1]["presets"]
    assert [x for x, _ in presets[name]] == [step.name for step in steps]
    status, answer, _ = ask("/explain", question(setting(order=presets[name]), tokens=[5, 6]))
    assert status == 200
    batch = lc.Batch(model.tokenizer.vocab_size)
    (row,) = batch.add(lc.Params.from_request(BODY, eos_token=model.tokenizer.eos), prompt)
    ours = lc.Chain(steps).explain(model.prefill(prompt)[0], batch, row)
    ids = [token["id"] for token in answer["tokens"]]
    assert set(ids) == {*ours.likeliest(), 5, 6}
    (result,) = answer["results"]
    mass = ours.stages[0].probs[ours.stages[-1].left].sum()
    kept = {"tokens": ours.stages[-1].kept, "mass": mass, "entropy": ours.stages[-1].entropy}
    more = {"kept": kept, "watermarked": False, "finish": None, "stop_reason": None}
    assert result == {**ours.as_dict(ids), **more}
    assert answer["prompt_tokens"] == len(prompt)


def test_two_settings_are_told_about_the_same_tokens(ask):
    greedy = {"temperature": 0, "seed": 3}
    _, both, _ = ask("/explain", question(setting(), setting(greedy)))
    _, alone, _ = ask("/explain", question(setting(greedy)))
    listed = [[token["token"] for token in result["tokens"]] for result in both["results"]]
    assert listed[0] == listed[1] == [token["id"] for token in both["tokens"]]
    assert both["results"][1]["token"] == alone["results"][0]["token"]
    assert both["results"][1]["stages"] == alone["results"][0]["stages"]


def test_logits_do_not_depend_on_the_way_there(model, prompt, monkeypatch):
    from playground import logits as module

    monkeypatch.setattr(module, "MOST_KEPT", 3)
    output = [504, 253, 28, 260, 339]
    straight, cache = model.prefill(prompt)
    expected = [straight, *[model.step([cache], [token])[0] for token in output]]
    ours = module.Logits(model)
    other = [*prompt, 5]
    for place in (5, 2, 0, 4, 1, 5, 3, 0):
        assert_array_equal(ours.after(prompt, output[:place]), expected[place])
        ours.after(prompt, [*output[:place], 7])
        ours.after(other, output[:1])
        assert len(ours._kept) <= 3


def test_logits_are_computed_once(model, prompt, monkeypatch):
    from playground.logits import Logits

    ours = Logits(model)
    ours.after(prompt, [504, 253])
    monkeypatch.setattr(type(model), "forward", None)
    for place in (0, 1, 2, 1, 0):
        ours.after(prompt, [504, 253][:place])


@pytest.mark.parametrize("fields", [{"mirostat_tau": 3.0}, {"adaptive_target": 0.4}])
def test_states_follow_the_text(ask, model, prompt, fields):
    chain, batch = lc.Chain(), lc.Batch(model.tokenizer.vocab_size)
    (row,) = batch.add(lc.Params(seed=5, **fields), prompt)
    logits, cache = model.prefill(prompt)
    for _ in range(3):
        _, answer, _ = ask("/explain", question(setting({"seed": 5, **fields}, batch.output(row))))
        token = int(chain.sample(logits, batch)[0])
        explained = chain.explain(logits, batch, row)
        result = answer["results"][0]
        assert (result["token"], result["position"]) == (token, len(batch.output(row)))
        settings = {stage["name"]: stage["setting"] for stage in result["stages"]}
        (on,) = [x for x in explained.stages if x.name in ("mirostat", "adaptive_p") and x.changed]
        assert settings[on.name] == on.setting
        batch.append([token])
        logits = model.step([cache], [token])[0]


def test_the_end_of_a_text_is_told(ask, model):
    end = model.tokenizer.eos[0]
    loops = {"max_pattern_size": 3, "min_count": 3}
    for body, output, finish, reason in (
        (BODY, [504], None, None),
        (BODY, [504, end, 5], "stop", end),
        ({**BODY, "max_tokens": 1}, [504], "length", None),
        ({**BODY, "stop": "The"}, model.tokenizer.encode("The whale"), "stop", "The"),
        ({**BODY, "stop_tokens": [[504, 5]]}, [504, 5], "stop", [504, 5]),
        ({**BODY, "repetition_detection": loops}, [504, 5] * 3, "repetition", None),
        ({**BODY, "logprobs": True, "top_logprobs": 3, "n": 2}, [504], None, None),
    ):
        (result,) = ask("/explain", question(setting(body, output)))[1]["results"]
        assert (result["finish"], result["stop_reason"]) == (finish, reason)


def test_a_watermark_decides_the_draw(ask):
    """Seeds no longer matter, and the token that is drawn is the first to arrive."""
    fields = {"temperature": 2, "watermark": {"key": 42, "deduplicate": False}}
    answers = [
        ask("/explain", question(setting({**fields, "seed": seed}, [504, 253])))[1]
        for seed in (1, 2)
    ]
    first, second = (answer["results"][0] for answer in answers)
    assert first["tokens"] == second["tokens"]
    assert first["watermarked"] is True
    arrivals = {x["token"]: x["arrival"] for x in first["tokens"]}
    assert min(arrivals, key=arrivals.get) == first["token"]
    repeated = {**fields, "seed": 1, "watermark": {"key": 42, "context_width": 1}}
    (result,) = ask("/explain", question(setting(repeated, [504, 253, 504])))[1]["results"]
    assert result["watermarked"] is False  # this context has come before


def test_the_ends_of_lines_are_filled_in(ask, model):
    """A budget that is spent waits for the end of a line, whose tokens the page need not name."""
    (mark,) = model.tokenizer.encode("!")
    fields = {"reasoning_end": [mark], "reasoning_budget": 1, "reasoning_grace": 9, "seed": 1}
    for text, ends in ((" sea", False), (" sea\n", True)):
        output = model.tokenizer.encode(text)
        (result,) = ask("/explain", question(setting(fields, output)))[1]["results"]
        assert (result["kept"]["tokens"] == 1) == ends


def test_tokens_of_a_text_and_of_ids(ask, model):
    _, tokens, _ = ask("/tokens", {"text": " sea\n"})
    assert [token["id"] for token in tokens] == model.tokenizer.encode(" sea\n")
    assert "".join(token["text"] for token in tokens) == " sea\n"
    part = model.tokenizer.encode("🐳")[0]
    _, tokens, _ = ask("/tokens", {"ids": [part, model.tokenizer.eos[0]]})
    assert tokens[0] == {"id": part, "text": "F0 9F", "bytes": [0xF0, 0x9F]}
    assert tokens[1] == {"id": model.tokenizer.eos[0], "text": "<|im_end|>", "special": True}


# ---- the records


def test_the_catalogue_has_every_control_and_field(ask):
    _, about, _ = ask("/catalogue")
    assert list(about["controls"]) == [control.name for control in CONTROLS]
    for name, control in about["controls"].items():
        assert control["description"].endswith(".")
        assert ask(f"/docs/{name}")[1].strip()
    response = {"n", "logprobs", "top_logprobs", "logprob_token_ids", "logprobs_of"}
    assert set(about["fields"]) | response == set(lc.FIELDS)
    assert all(field["meaning"] for field in about["fields"].values())
    others = ["watermark", "seed", "max_tokens", "max_total_tokens", "stop_after_min_tokens"]
    assert about["others"] == [*others, "stop", "eos_token", "stop_tokens", "include_stop"]
    kinds = {
        **{"temperature": "number", "top_k": "integer", "p_less": "switch", "top_h": "number"},
        **{"logit_bias": "biases", "bad_words": "phrases", "banned_tokens": "tokens"},
        **{"watermark": "record", "repetition_detection": "record", "banned_texts": "texts"},
        **{"stop_tokens": "phrases", "forced_output_tokens": "tokens", "reasoning_end": "tokens"},
        **{"stop": "texts", "max_tokens": "integer", "mirostat_tau": "number", "seed": "integer"},
    }
    assert {name: about["fields"][name]["kind"] for name in kinds} == kinds
    watermark = about["fields"]["watermark"]["properties"]
    assert watermark["scheme"]["enum"] == ["gumbel", "dual_key_gumbel", "sglang", "sbw"]
    top_p = about["fields"]["top_p"]
    assert (top_p["low"], top_p["high"], top_p["open"], top_p["off"]) == (0, 1, [True, False], 1)
    assert about["fields"]["temperature"]["high"] is None
    assert about["fields"]["top_k"]["high"] == 49_152
    assert about["controls"]["xtc"]["switches"] == ["xtc_probability", "xtc_threshold"]
    assert about["controls"]["top_k"]["options"] == {"ties": ["first", ["first", "all"]]}
    assert set(about["presets"]) == {"default", *lc.PRESETS}


def test_numbers_are_in_the_range_that_the_field_tells(ask):
    for name, about in ask("/catalogue")[1]["fields"].items():
        for end, is_open in zip(("low", "high"), about.get("open", ()), strict=False):
            value = about[end]
            if value is None or name == "seed":
                continue
            if is_open:
                with pytest.raises(ValueError, match=f"^{name} must be in"):
                    lc.FIELDS[name].check(name, value)
            else:
                lc.FIELDS[name].check(name, value)


def test_a_chain_may_hold_callables(model):
    from playground.app import create

    def no_even(rows, batch):
        rows[:, ::2] = -np.inf

    explainer = create(model, lc.Chain(["temperature", no_even, "top_k"])).state.explainer
    order = [["temperature", {}], ["no_even", {}]]
    answer = explainer.explain(question(setting({"seed": 1}, order=order)))
    stages = answer["results"][0]["stages"]
    assert [stage["name"] for stage in stages] == ["logits", "no_even"]
    assert answer["results"][0]["token"] % 2 == 1


# ---- what is wrong is said


def test_errors_are_told_by_field(ask):
    body = {"min_p": 1.5, "top_k": 50_000, "temperature": 0.5, "logit_bias": {"60000": 1}}
    _, answer, _ = ask("/explain", question(setting(body), setting()))
    errors = answer["results"][0]["errors"]
    assert errors["min_p"] == "min_p must be in [0, 1], not 1.5"
    assert errors["top_k"] == "top_k must be in [0, 49152], not 50000"
    assert "60000" in errors["logit_bias"]
    assert set(errors) == {"min_p", "top_k", "logit_bias"}
    assert answer["results"][1]["token"] >= 0


def test_fields_that_contradict_each_other_are_told_by_one_of_them(ask):
    for body, name in (
        ({"reasoning_budget": 5}, "reasoning_budget"),
        ({"reasoning_budget": 5, "reasoning_end": [5], "min_reasoning": 6}, "min_reasoning"),
        ({"max_total_tokens": 5}, "max_total_tokens"),
    ):
        (result,) = ask("/explain", question(setting(body)))[1]["results"]
        assert set(result["errors"]) == {name}
    body = {"reasoning_budget": 5, "reasoning_end": [5], "min_p": 2}
    assert set(ask("/explain", question(setting(body)))[1]["results"][0]["errors"]) == {"min_p"}


def test_what_is_of_no_single_field_is_told_too(ask):
    for order in ([["no_such", {}]], [["top_k", {"ties": "some"}]], [["top_k", {"no": 1}]]):
        (result,) = ask("/explain", question(setting(order=order)))[1]["results"]
        assert set(result["errors"]) == {""}
    (result,) = ask("/explain", question(setting({"top-p": 1})))[1]["results"]
    assert "did you mean 'top_p'?" in result["errors"]["top-p"]


MALFORMED = [
    {},
    {"prompt": PROMPT},
    question(prompt=5),
    question(tokens=[-1]),
    question(tokens=["5"]),
    question(tokens=[49_152]),
    question(tokens=range(201)),
    question(setting(), setting(), setting()),
    {**question(), "settings": []},
    {**question(), "settings": [5]},
    {**question(), "settings": [{}]},
    question({**setting(), "order": "top_k"}),
    question({**setting(), "order": ["top_k"]}),
    question({**setting(), "order": [["top_k", 5]]}),
    question({**setting(), "order": 100 * [["top_k", {}]]}),
    question({**setting(), "body": []}),
    question({**setting(), "output": None}),
    question({**setting(), "output": [True]}),
    question({**setting(), "output": 301 * [5]}),
    question(prompt="word " * 2_000),
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_request_is_refused_with_a_reason(ask, body):
    status, answer, _ = ask("/explain", body)
    assert (status, list(answer)) == (400, ["error"])
    assert re.search(" must (be|have) ", answer["error"])


@pytest.mark.parametrize(
    ("status", "path", "body", "headers"),
    [
        (400, "/explain", "{", {}),
        (400, "/explain", "[]", {}),
        (400, "/explain", "[" * 100_000, {}),
        (400, "/tokens", {"text": 5}, {}),
        (400, "/tokens", {"ids": [49_152]}, {}),
        (413, "/explain", "x" * (2**20 + 1), {}),
        (415, "/explain", "{}", {"content_type": "text/plain"}),
        (400, "/catalogue", None, {"host": "elsewhere.example"}),
        (404, "/docs/no_such", None, {}),
        (404, "/../app.py", None, {}),
        (404, "/%2e%2e/app.py", None, {}),
        (404, "/explain", None, {}),
    ],
)
def test_what_does_not_belong_here_is_refused(ask, status, path, body, headers):
    assert ask(path, body, **headers)[0] == status


def test_files_come_with_a_policy_that_nothing_comes_from_elsewhere(ask):
    for path in ("/", "/main.js", "/catalogue"):
        status, _, headers = ask(path)
        assert (status, headers["cache-control"]) == (200, "no-cache")
        assert headers["content-security-policy"].startswith("default-src 'self';")
    for file in (EXAMPLES / "playground/static").iterdir():
        assert "://" not in file.read_text()


# ---- the command


def test_the_command_serves_ones_own_control_and_ends_quietly(tmp_path):
    log = tmp_path / "log"
    own = str(EXAMPLES / "own_control.py")
    command = [sys.executable, str(EXAMPLES / "play.py"), "--no-browser", "--own", own]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    deadline = time.monotonic() + 200
    while not (found := re.search(r"listening on http://127\.0\.0\.1:(\d+)/", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
    connection.request("GET", "/catalogue")
    about = json.loads(connection.getresponse().read())
    connection.close()
    assert about["controls"]["top_cube"]["fields"] == ["top_cube"]
    names = [name for name, _ in about["presets"]["default"]]
    assert names.index("top_cube") == names.index("top_k") - 1
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert "Traceback" not in log.read_text()


def test_a_file_without_a_control_is_an_error(tmp_path):
    from play import own_controls

    (tmp_path / "nothing_here.py").write_text("x = 1\n")
    with pytest.raises(SystemExit, match=r"defines no logitchain\.Control"):
        own_controls(str(tmp_path / "nothing_here.py"))
