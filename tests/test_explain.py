"""What each control did to a row: the stages, the fate of each token, the table, the picture."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc
import strategies
from logitchain.chain import DEFAULT_ORDER, PRESETS
from logitchain.explain import BEST, _width
from logitchain.presets import MASKS

VOCAB = 24
LOGITS = np.array([[2.0, 1.0, 0.5, 0.0, -np.inf, -1.0]], np.float32)
WORDS = ["[bold]red[/bold]", "[/]", "$x_{$", "]", " the\n", "Å"]


def six(**fields):
    batch = lc.Batch(6)
    (row,) = batch.add(lc.Params(**({"seed": 1} | fields)), [0, 1], [2])
    return batch, row


def explain(chain=None, decode=None, **fields):
    batch, row = six(**fields)
    return (chain or lc.Chain()).explain(LOGITS, batch, row, decode)


BUSY = {
    "logit_bias": {3: 2.0, 5: -np.inf},
    "repetition_penalty": 1.5,
    "temperature": 0.8,
    "top_k": 3,
    "top_p": 0.9,
    "min_p": 0.05,
}

requests = st.builds(
    lc.Params,
    temperature=strategies.VALUES["temperature"],
    top_k=st.integers(0, VOCAB),
    top_p=strategies.unit,
    min_p=strategies.VALUES["min_p"],
    top_n_sigma=st.one_of(st.just(0.0), strategies.VALUES["top_n_sigma"]),
    **{
        name: st.one_of(st.just(lc.FIELDS[name].off), strategies.VALUES[name])
        for name in ("typical_p", "top_a", "epsilon_cutoff", "eta_cutoff", "tfs", "top_h")
    },
    dynatemp_range=st.sampled_from((0.0, 0.0, 0.5)),
    mirostat_tau=st.sampled_from((None, None, 2.0)),
    adaptive_target=st.sampled_from((None, None, 0.3)),
    xtc_probability=st.sampled_from((0.0, 0.5, 1.0)),
    xtc_threshold=st.sampled_from((0.0, 0.05, 0.2)),
    repetition_penalty=strategies.VALUES["repetition_penalty"],
    logit_bias=strategies.biases(VOCAB),
    **strategies.masks(VOCAB),
    seed=st.integers(0, 2**64 - 1),
)
requests = strategies.with_reasoning(requests, VOCAB)


#: The field without which a mask is off, where it has another name; the bitmask has none.
FIELD_OF = {"reasoning": "reasoning_end"}


def quiet(rows, batch):
    rows -= 0.0


@pytest.mark.parametrize("name", ["default", *PRESETS])
@given(data=st.data())
def test_an_explanation_agrees_with_itself_and_with_the_chain(name, data):
    order = list(PRESETS.get(name, DEFAULT_ORDER))
    if data.draw(st.booleans()):
        order.insert(data.draw(st.integers(0, len(order))), quiet)
    chain = lc.Chain(order)
    batch = lc.Batch(VOCAB)
    for _ in range(data.draw(st.integers(1, 3))):
        batch.add(data.draw(requests), data.draw(strategies.tokens(VOCAB)), [1, 2])
    logits = np.stack([data.draw(strategies.rows(VOCAB, VOCAB)) for _ in batch.rows])
    for r in range(len(batch)):
        if data.draw(st.integers(0, 3)) == 0:
            logits[r, data.draw(st.integers(0, VOCAB - 1))] = data.draw(
                st.sampled_from([np.nan, np.inf])
            )
    processed = chain(logits, batch, on_invalid="mark")
    tokens = chain.sample(logits, batch, on_invalid="mark")
    status = batch.status
    r = data.draw(st.integers(0, len(batch) - 1))
    if status[r].startswith("token"):
        with pytest.raises(ValueError, match=f"^logits: row {r}, {status[r]}$"):
            chain.explain(logits, batch, batch.rows[r])
        return
    ours = chain.explain(logits, batch, batch.rows[r])
    assert batch.status is status
    assert (ours.row, ours.token, ours.status) == (batch.rows[r], tokens[r], status[r])
    assert (ours.seed, ours.position) == (batch.seed(batch.rows[r]), 2)
    params, names = batch.params(batch.rows[r]), [step.name for step in chain.steps]
    off = {name for name in MASKS if not getattr(params, FIELD_OF.get(name, name), None)}
    shown = [stage.name for stage in ours.stages]
    if ours.token < 0:
        assert ours.status == f"no finite logit is left after {shown[-1]}"
        names = names[: names.index(shown[-1]) + 1]
    assert shown == ["logits", *[n for n in names if n not in off]]
    assert_array_equal(ours.stages[0].logits, logits[r])
    assert_array_equal(ours.stages[-1].logits, processed[r])
    check_stages(ours)
    check_fates(ours)
    check_report(ours)


def check_stages(ours):
    first = ours.stages[0]
    gone = first.logits.size - first.kept
    assert (first.before, first.removed.size, first.removed_mass, first.changed) == (
        None,
        0,
        0,
        True,
    )
    for before, stage in zip(ours.stages, ours.stages[1:], strict=False):
        assert stage.before is before
        assert stage.kept == np.isfinite(stage.logits).sum() == stage.left.sum()
        assert (stage.kept == 0) == (stage is ours.stages[-1] and ours.token < 0)
        gone += stage.removed.size
        assert stage.kept + gone == first.logits.size
        assert_array_equal(stage.removed, np.flatnonzero(before.left & ~stage.left))
        assert_allclose(stage.removed_mass, before.probs[stage.removed].sum(), atol=1e-12)
        assert stage.changed == (not np.array_equal(stage.logits, before.logits))
    if ours.token < 0:
        check_empty(ours.stages[-1])
    for stage in ours.stages[: len(ours.stages) - (ours.token < 0)]:
        assert_allclose(stage.probs.sum(), 1)
        assert_array_equal(stage.probs[~stage.left], 0)
        q = np.exp(lc.logprobs(stage.logits).astype(np.float64))
        assert_allclose(stage.probs, q, rtol=1e-4, atol=1e-30)
        assert -1e-12 <= stage.entropy <= np.log(stage.kept) + 1e-9
        best = stage.best()
        assert len(best) == min(BEST, stage.kept)
        assert [i for i, _ in best] == lc.top_logprobs(stage.logits, len(best))[0].tolist()
        assert [q for _, q in best] == [stage.probs[i] for i, _ in best]


def check_empty(stage):
    assert (stage.kept, stage.entropy, stage.best(), stage.changed) == (0, 0.0, [], True)
    assert_array_equal(stage.probs, np.zeros(VOCAB))
    assert_allclose(stage.removed_mass, 1)


def check_fates(ours):
    names = [stage.name for stage in ours.stages]
    for token in range(VOCAB):
        fate = ours.fate(token)
        left = [bool(stage.left[token]) for stage in ours.stages]
        if token == ours.token:
            assert (fate, all(left)) == ("picked", True)
        elif all(left):
            assert fate == "left, not picked"
        elif not left[0]:
            assert fate == "removed before the chain"
        else:
            assert fate == f"removed by {names[left.index(False)]}"
            assert token in ours.stages[left.index(False)].removed


def check_report(ours):
    """The race has the picked token first, and JSON has what the explanation has."""
    arrivals = ours.arrivals(range(VOCAB))
    assert_array_equal(np.isfinite(arrivals), ours.stages[-1].probs > 0)
    if ours.token >= 0:
        assert arrivals[ours.token] == arrivals.min()
    report = ours.as_dict(range(VOCAB))
    assert json.loads(json.dumps(report)) == report
    shown = [s for s in ours.stages if s.changed or s.setting != "off"]
    assert [(s["name"], s["kept"], s["removed"]) for s in report["stages"]] == [
        (s.name, s.kept, s.removed.size) for s in shown
    ]
    for token, about in enumerate(report["tokens"]):
        assert (about["token"], about["fate"]) == (token, ours.fate(token))
        assert about["arrival"] == (arrivals[token] if arrivals[token] < np.inf else None)
        for stage, prob in zip(shown, about["probs"], strict=True):
            assert prob == (stage.probs[token] if stage.left[token] else None)
    some = ours.likeliest(5)
    peak = np.max([stage.probs for stage in ours.stages], axis=0)
    others = np.delete(peak, some)
    kept = [token for token in some if token != ours.token]
    assert len(some) == 5
    assert peak[kept].min() >= others.max() * (1 - 1e-6)
    assert ours.token in some or ours.token < 0
    first = ours.stages[0].logits[some].tolist()
    assert first == sorted(first, reverse=True)


# ---- by hand


def test_masks_are_shown_where_a_request_has_them():
    batch = lc.Batch(6)
    (row,) = batch.add(lc.Params(banned_tokens=[1], bad_words=[[2]], min_tokens=2, eos_token=5))
    batch.set_mask(row, np.array([0b110111], np.int32))
    ours = lc.Chain().explain(np.zeros(6), batch, row)
    shown = [(stage.name, stage.setting, stage.removed.tolist()) for stage in ours.stages[1:5]]
    assert shown == [
        ("token_bitmask", "set", [3]),
        ("banned_tokens", "1 token", [1]),
        ("min_tokens", "2", [5]),
        ("bad_words", "1 phrase", [2]),
    ]
    assert ours.fate(3) == "removed by token_bitmask"


def test_a_control_of_ones_own_may_have_a_masks_name():
    def bad_words(rows, batch):
        rows[:, 4] = -np.inf

    batch = lc.Batch(6)
    (row,) = batch.add(lc.Params())
    ours = lc.Chain((bad_words, "top_k")).explain(np.zeros(6), batch, row)
    assert ours.fate(4) == "removed by bad_words"


def test_stages_and_fates_of_a_row_that_can_be_followed_by_eye():
    ours = explain(top_k=3, min_p=0.3, logit_bias={3: -np.inf})
    assert [stage.kept for stage in ours.stages] == [5, 5, *[4] * 9, 3, 3, *[2] * 11]
    fates = [ours.fate(token) for token in range(6)]
    assert sorted(fates[:2]) == ["left, not picked", "picked"]
    assert fates[2:] == [
        "removed by min_p",
        "removed by logit_bias",
        "removed before the chain",
        "removed by top_k",
    ]
    settings = {stage.name: stage.setting for stage in ours.stages}
    assert settings["top_k"] == "3"
    assert settings["min_p"] == "0.3"
    assert settings["top_p"] == settings["temperature"] == settings["xtc"] == "off"
    assert settings["logit_bias"].startswith("1 token")
    changed = [stage.name for stage in ours.stages if stage.changed]
    assert changed == ["logits", "logit_bias", "top_k", "min_p"]


def test_greedy_is_picked_with_certainty():
    ours = explain(temperature=0)
    assert (ours.token, ours.stages[-1].kept, ours.stages[-1].entropy) == (0, 1, 0)
    assert ours.fate(1) == "removed by temperature"


def test_explain_leaves_logits_and_batch_alone():
    batch, row = six(top_k=2)
    logits = LOGITS.copy()
    lc.Chain().explain(logits, batch, row)
    assert_array_equal(logits, LOGITS)
    assert (batch.output(row), batch.positions.tolist(), batch.status) == ([2], [1], ["ok"])


def test_a_stage_keeps_its_own_logits():
    ours = explain(temperature=0.5, top_k=1)
    stages = {stage.name: stage.logits for stage in ours.stages}
    assert_array_equal(stages["logits"], LOGITS[0])
    assert_array_equal(stages["temperature"], LOGITS[0] * 2)
    assert_array_equal(stages["top_k"], [4, *[-np.inf] * 5])


@pytest.mark.parametrize("token", [-1, 6, 10**20, np.int64(-1), np.uint64(6)])
def test_a_fate_is_that_of_a_token(token):
    with pytest.raises(ValueError, match=r"^token must be in \[0, 6\), not "):
        explain().fate(token)


@pytest.mark.parametrize(
    "token", [1.5, 1.0, True, False, np.True_, "a", "1", None, [1], np.array([1]), np.float32(1)]
)
def test_a_fate_is_that_of_an_integer(token):
    with pytest.raises(TypeError, match=r"^token must be an integer in \[0, 6\), not "):
        explain().fate(token)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int16])
def test_a_token_is_any_integer(kind):
    assert explain(top_k=1).fate(kind(0)) == "picked"
    assert explain(top_k=1).fate(kind(5)) == "removed by top_k"


@pytest.mark.parametrize("decode", ["words", 5, WORDS, {}])
def test_decode_is_a_callable(decode):
    with pytest.raises(TypeError, match=r"^decode must be callable, not "):
        explain(decode=decode)


@pytest.mark.parametrize(
    "row", [7, -1, None, "0", [0], 0.0, True, False, np.True_, 2**70, np.array([0]), np.float64(0)]
)
def test_an_explanation_is_of_a_row(row):
    batch, _ = six()
    with pytest.raises(ValueError, match="row must be one of the batch's 1 rows, not "):
        lc.Chain().explain(LOGITS, batch, row)


def test_a_report_has_texts_and_a_place_for_each_stage_that_is_on():
    report = explain(decode=WORDS.__getitem__, temperature=0.5, top_k=2).as_dict([0, 3])
    assert [stage["name"] for stage in report["stages"]] == ["logits", "temperature", "top_k"]
    assert report["stages"][2]["setting"] == "2"
    first, last = report["tokens"]
    assert (first["text"], last["text"]) == ("[bold]red[/bold]", "]")
    assert (last["fate"], last["probs"][2], last["arrival"]) == ("removed by top_k", None, None)
    assert explain().as_dict()["tokens"][0]["text"] is None


@pytest.mark.parametrize("token", [-1, 6])
def test_a_report_is_of_tokens_of_the_vocabulary(token):
    with pytest.raises(ValueError, match=r"^a token id must be in \[0, 6\), not "):
        explain().as_dict([token])


@pytest.mark.parametrize("n", [0, -1])
def test_likeliest_is_at_least_one(n):
    with pytest.raises(ValueError, match=r"^n must be in \[1, inf\), not "):
        explain().likeliest(n)


# ---- rows without a token


def no_positive(rows, batch):
    rows[rows >= 0] = -np.inf


EMPTIED = {
    "banned_tokens": (None, {"allowed_tokens": [1], "banned_tokens": [1]}, 1),
    "logit_bias": (None, {"allowed_tokens": [1], "logit_bias": {1: -np.inf}}, 1),
    "allowed_tokens": (None, {"allowed_tokens": [4]}, 5),
    "bad_words": (("top_k", "bad_words", "top_p"), {"top_k": 1, "bad_words": [[0]]}, 1),
    "no_positive": (("top_k", no_positive, "temperature"), {"top_k": 2}, 2),
}


@pytest.mark.parametrize("policy", ["raise", "mark"])
@pytest.mark.parametrize(("name", "case"), EMPTIED.items(), ids=EMPTIED)
def test_error_status_and_explanation_name_the_control_that_empties_a_row(name, case, policy):
    order, fields, before = case
    chain = lc.Chain(order or DEFAULT_ORDER, on_invalid=policy)
    batch, row = six(seed=5, min_p=0.1, **fields)
    reason = f"no finite logit is left after {name}"
    for call in (chain, chain.sample, chain.sample_with_logprobs):
        with pytest.raises(ValueError, match=f"^logits: row 0, {reason}$"):
            call(LOGITS, batch, on_invalid="raise")
        call(LOGITS, batch, on_invalid="mark")
        assert batch.status == [reason]
    for drafts in ([[]], [[0, 1]]):
        logits = np.repeat(LOGITS, 1 + len(drafts[0]), axis=0)
        with pytest.raises(ValueError, match=f"^logits: row 0, {reason}$"):
            chain.verify(logits, batch, drafts, on_invalid="raise")
        assert [
            tokens.tolist() for tokens in chain.verify(logits, batch, drafts, on_invalid="mark")
        ] == [[-1]]
        assert batch.status == [reason]
    ours = chain.explain(LOGITS, batch, row)
    assert (ours.token, ours.status, ours.stages[-1].name) == (-1, reason, name)
    assert [stage.kept for stage in ours.stages[-2:]] == [before, 0]
    assert {ours.fate(token) for token in np.flatnonzero(ours.stages[-2].left)} == {
        f"removed by {name}"
    }
    assert ours.ignored == (() if order is None else ("min_p",))
    lines = str(ours).splitlines()
    assert f"row 0, position 1, seed 5: no token, {reason}" in lines
    (line,) = [line for line in lines if line.split()[:1] == [name]]
    assert line.split()[-3:] == ["0", "100.00%", "0.00"]


def test_a_callable_that_writes_nan_is_explained():
    def spoil(rows, batch):
        rows[0, 3] = np.nan

    ours = explain(lc.Chain(("top_k", spoil, "top_p")), top_k=3, top_p=0.5)
    assert [stage.name for stage in ours.stages] == ["logits", "top_k", "spoil"]
    assert (ours.token, ours.stages[-1].kept) == (-1, 0)
    assert ours.status == "token 3 is nan after spoil"
    assert str(ours).endswith("no token, token 3 is nan after spoil")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "order", [DEFAULT_ORDER, ("top_k", quiet, "top_p"), (quiet, "temperature")]
)
def test_other_rows_do_not_matter_to_an_explanation(value, order):
    batch = lc.Batch(6)
    rows = batch.add(lc.Params(n=3, seed=5, top_k=3, top_p=0.9))
    logits = np.repeat(LOGITS, 3, axis=0)
    chain = lc.Chain(order)
    expected = str(chain.explain(logits, batch, rows[1]))
    logits[[0, 2]] = value
    batch.status = status = ["ok", "of an earlier call", "ok"]
    assert str(chain.explain(logits, batch, rows[1])) == expected
    assert batch.status is status
    assert status == ["ok", "of an earlier call", "ok"]
    with pytest.raises(ValueError, match=r"^logits: row 2, "):
        chain.explain(logits, batch, rows[2])
    assert batch.status is status


def test_plot_draws_a_row_that_is_emptied(tmp_path):
    ours = explain(allowed_tokens=[0, 1], banned_tokens=[0, 1], temperature=0.5)
    ours.plot(tmp_path / "empty.png")
    assert (colours(tmp_path / "empty.png") > 500).sum() >= 3


@pytest.mark.parametrize("policy", ["raise", "mark"])
def test_an_invalid_row_is_an_error_with_either_policy(policy):
    batch, row = six()
    bad = LOGITS.copy()
    bad[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"^logits: row 0, token 3 is nan$"):
        lc.Chain(on_invalid=policy).explain(bad, batch, row)


def test_the_row_may_be_any_row_of_a_batch_that_changed():
    batch = lc.Batch(6)
    rows = batch.add(lc.Params(n=3, seed=5, top_k=2))
    batch.remove(rows[0])
    logits = np.vstack([LOGITS, LOGITS[:, ::-1]])
    tokens = lc.Chain().sample(logits, batch)
    for r, row in enumerate(rows[1:]):
        ours = lc.Chain().explain(logits, batch, row)
        assert (ours.row, ours.token) == (row, tokens[r])
        assert_array_equal(ours.stages[0].logits, logits[r])


SHORT = ("temperature", "top_k")


@pytest.mark.parametrize(
    ("order", "fields", "ignored"),
    [
        (DEFAULT_ORDER, BUSY | {"xtc_probability": 0.5, "frequency_penalty": 1.0}, ()),
        (SHORT, {"temperature": 0.5, "top_k": 1}, ()),
        (SHORT, {"top_p": 0.5, "min_p": 0.1}, ("top_p", "min_p")),
        (
            SHORT,
            {"xtc_probability": 0.5, "xtc_threshold": 0.1},
            ("xtc_probability", "xtc_threshold"),
        ),
        (SHORT, {"presence_penalty": 1.0}, ("presence_penalty",)),
        (SHORT, {"logit_bias": {1: 2.0}}, ("logit_bias",)),
        (PRESETS["transformers"], {"frequency_penalty": 1.0, "top_p": 0.5}, ("frequency_penalty",)),
    ],
)
def test_ignored_fields_are_those_that_are_set_and_have_no_control(order, fields, ignored):
    assert explain(lc.Chain(order), **fields).ignored == ignored


def test_a_control_of_ones_own_is_a_stage():
    def no_first(rows, batch):
        rows[:, 0] = -np.inf

    ours = explain(lc.Chain(("top_k", no_first)), top_k=2)
    assert [stage.name for stage in ours.stages] == ["logits", "top_k", "no_first"]
    assert ours.token == 1
    assert ours.fate(0) == "removed by no_first"
    assert "no_first" in str(ours)


# ---- the table


def test_the_table_has_a_line_for_each_control_that_is_on_and_says_what_is_picked():
    ours = explain(lc.Chain(), **BUSY)
    text = str(ours)
    lines = text.splitlines()
    for stage in ours.stages:
        found = [line for line in lines if line.split()[:1] == [stage.name]]
        assert len(found) == (stage.setting != "off")
        for line in found:
            assert str(stage.kept) in line.split()
            assert f"{stage.entropy:.2f}" in line
            assert f"{stage.removed_mass:.2%}" in line or not stage.removed.size
    for word in ("control", "setting", "left", "removed", "entropy", "best"):
        assert word in text
    assert f"row 0, position 1, seed 1: picked {ours.token} " in lines[-1]
    assert f"probability {ours.stages[-1].probs[ours.token]:.2%}" in lines[-1]
    assert "\x1b" not in text


def test_print_shows_the_table(capsys):
    ours = explain(**BUSY)
    print(ours)
    assert capsys.readouterr().out == f"{ours}\n"


def test_the_table_shows_text_as_it_is_brackets_and_all():
    text = str(explain(decode=WORDS.__getitem__, temperature=2.0))
    for word in ("'[bold]red[/bold]'", "'[/]'", "'$x_{$'"):
        assert word in text


@pytest.mark.parametrize("chain", [lc.Chain(()), lc.Chain(("temperature",))])
def test_the_table_says_which_fields_the_chain_has_no_control_for(chain):
    ours = explain(chain, top_p=0.5, min_p=0.5)
    assert "not in this chain: top_p, min_p" in str(ours).splitlines()[-1]
    assert "not in this chain" not in str(explain(chain))


def test_columns_line_up():
    lines = str(explain(**BUSY)).splitlines()
    start = lines[0].index("best ")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines[:-1])
    assert all(line == line.rstrip() for line in lines)


def test_wide_characters_take_two_columns():
    words = ["鲸鱼", "e\u0301", "whale", "海", "ok", "x"]
    lines = str(explain(decode=words.__getitem__, temperature=0.9)).splitlines()
    assert _width(lines[1]) == max(map(_width, lines[:-1]))  # the rule is as wide as the table
    assert _width("鲸鱼") == 4
    assert _width("e\u0301") == 1


@given(st.lists(st.text(max_size=8), min_size=6, max_size=6))
def test_no_text_of_a_token_breaks_the_table(words):
    lines = str(explain(decode=words.__getitem__, temperature=0.9)).splitlines()
    assert lines[-1].startswith("row 0, position 1, seed 1: picked ")


# ---- the picture


def colours(path):
    from matplotlib.image import imread

    pixels = (imread(path)[..., :3] * 255).astype(int).reshape(-1, 3)
    return np.unique(pixels @ [65536, 256, 1], return_counts=True)[1]


@pytest.mark.parametrize("decode", [None, lambda token: "abcdef"[token], WORDS.__getitem__])
def test_plot_draws_a_picture(tmp_path, decode):
    path = tmp_path / "row.png"
    explain(decode=decode, **BUSY).plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert (colours(path) > 500).sum() >= 5
    explain(decode=decode, **BUSY).plot(str(path))


@pytest.mark.parametrize("text", ["語", "\U0001f642", "\x00", "$", "^_\\frac{", "_x", ""])
def test_plot_draws_any_text(tmp_path, text):
    explain(decode=lambda token: text * 2, **BUSY).plot(tmp_path / "text.png")
    assert (colours(tmp_path / "text.png") > 500).sum() >= 5


def test_plot_draws_a_chain_that_does_nothing_and_a_vocabulary_of_one(tmp_path):
    explain(lc.Chain(())).plot(tmp_path / "nothing.png")
    batch = lc.Batch(1)
    (row,) = batch.add(lc.Params(seed=0))
    lc.Chain().explain([[0.0]], batch, row).plot(tmp_path / "one.png")
    for name in ("nothing.png", "one.png"):
        assert (colours(tmp_path / name) > 500).sum() >= 2


def test_plot_marks_a_picked_token_that_is_not_among_the_likeliest(tmp_path):
    logits = np.zeros((1, 50), np.float32)
    batch = lc.Batch(50)
    far = [seed for seed in range(20) if lc.sample(logits[0], seed=seed, position=0) > 20]
    (row,) = batch.add(lc.Params(seed=far[0]))
    ours = lc.Chain().explain(logits, batch, row)
    ours.plot(tmp_path / "far.png")
    assert ours.token > 20
    assert (colours(tmp_path / "far.png") > 500).sum() >= 5


def test_plot_without_matplotlib_says_so(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="matplotlib"):
        explain().plot(tmp_path / "none.png")


def test_a_report_takes_ids_of_numpy():
    ours = explain(lc.Chain(), **BUSY)
    assert ours.as_dict(np.array([1, 2])) == ours.as_dict([1, 2])
    json.dumps(ours.as_dict(np.array([1, 2])))
    with pytest.raises(ValueError, match="token id must be in"):
        ours.as_dict([-1])
