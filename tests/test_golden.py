"""Cases restated from other engines' own tests (`golden.json` names each source), run through
the public functions. Where an engine means something else, `DIFFERENT` says what we mean and why.
"""

import json
import re
from importlib.resources import files

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import logitchain as lc

GOLDEN = files("logitchain.conformance") / "golden.json"
CASES = json.loads(GOLDEN.read_text())["cases"]
BY_ID = {case["id"]: case for case in CASES}

SIGN_AWARE = "OpenVINO adds the penalty to negative logits; here it is always subtracted"
#: What we do instead, in the form of the case's own `expected`, or the error; and why.
DIFFERENT = {
    "llamacpp/min_p/8": ("min_p must be in [0, 1], not 1.05", "llama.cpp checks no range"),
    "exl3/logit_bias/nan_inf": (
        "logit_bias['0'] must be in [-inf, inf), not nan",
        "exllamav3 drops NaN and +inf",
    ),
    "openvino/frequency/0": ([[-1.5, 1.5, 3.0]], SIGN_AWARE),
    "openvino/frequency/1": ([[-0.4, 3.2, 3.0]], SIGN_AWARE),
    "openvino/presence/0": ([[-1.5, 1.5, 3.0]], SIGN_AWARE),
    "openvino/presence/1": ([[-0.4, 2.6, 3.0]], SIGN_AWARE),
    "exl3/temp_top_p": ([[0, 1, 4]], "exllamav3 drops the token that crosses top_p"),
    "hf/bad_words/0": ([[0, 1, 3, 4], [0, 1, 2, 4]], "transformers exempts the end of text"),
    "hf/bad_words/eos_only": ([[4], [4]], "transformers exempts the end of text"),
    "vllm_lp/min_tokens/restore": (
        "no finite logit is left",
        "vLLM lets a grammar end a text that is too short; here the row is reported",
    ),
    "hf/typical/uniform_ties": (
        [[0, 1, 2], [0, 1, 2]],
        "transformers keeps all that are as typical as the last one",
    ),
    **dict.fromkeys(
        ("llmsamplers/tfs/0", "llmsamplers/tfs/1", "llmsamplers/tfs/2"),
        (
            [[0, 1, 2, 3, 4]],
            "the probabilities are a straight line: rounding alone would say where",
        ),
    ),
    "jl/top_n_sigma/0.0": ([4], "LogitSamplers.jl keeps the best alone; 0 is off here"),
    "mlx/xtc/special": ([[0, 3]], "of the tied least, mlx-lm keeps both and we the last"),
    "observed/nonfinite/all_neginf": ("no finite logit is left", "engines return it unchanged"),
    "observed/nonfinite/nan": ("token 1 is nan", "engines keep, drop or prefer the NaN"),
    "observed/nonfinite/pos_inf": ("token 1 is inf", "engines give NaN probabilities"),
    "vllm_topk/all_neginf": ("no finite logit is left", "vLLM returns it unchanged"),
}
NOT_FIT = {name for name in DIFFERENT if name.endswith(("neginf", "/nan", "/pos_inf"))}
#: Of a float tie at a boundary the golden case leaves open what we do: the lowest ids stay.
OPEN = {"observed/top_p/tie_.6": [0, 1]}

#: No control here has a minimum of tokens to keep; these cases need one to come out as they do.
MIN_KEEP = {
    "hf/top_k/min_keep",
    "hf/min_p/min_keep",
    "observed/xtc/min_keep3_thr.09",
    "observed/xtc/min_keep2_thr.09",
    "hf/epsilon/min_keep",
}


def numbers(values):
    return np.array([[float(x) for x in row] for row in values], np.float64)


def logits_of(case):
    """The case's rows, float32."""
    inputs = case["inputs"]
    if inputs["kind"] == "zeros":
        return np.zeros((1, inputs["n_vocab"]), np.float32)
    if inputs["kind"] == "formula":
        with np.errstate(divide="ignore"):
            return np.log(np.arange(case["params"]["n_vocab"]))[None].astype(np.float32)
    with np.errstate(divide="ignore"):
        values = numbers(inputs["values"])
        return (np.log(values) if inputs["kind"] == "probs" else values).astype(np.float32)


def history(case):
    """(prompt and output, output alone): per row."""
    inputs = case["inputs"]
    both = inputs.get("tokens") or [
        prompt + output
        for prompt, output in zip(
            inputs.get("prompt", [[]] * 9), inputs.get("output", [[]] * 9), strict=False
        )
    ]
    return both, inputs.get("output", both)


def run(case):
    """The case's rows after its controls, in the order that it names or the default one."""
    params, rows = dict(case["params"]), logits_of(case)
    order = params.get("sequence") or [case["control"]]
    if case["control"] == "penalties":
        order = ["repetition_penalty", "frequency_penalty", "presence_penalty"]
    if case["control"].startswith("top_k_top_p"):  # jointly: on the mass before top_k
        order = ["top_p", "top_k", "min_p"] if params.get("joint") else ["top_k", "top_p", "min_p"]
        order = [name for name in order if name in params]
    for name in order:
        rows = apply(name, rows, params, case)
    return rows


def apply(name, rows, params, case):
    both, output = history(case)
    if name == "xtc":
        return lc.xtc(
            rows,
            params["xtc_threshold"],
            {"applied": 1.0, "not_applied": 0.0}.get(
                case.get("xtc_draw"), params["xtc_probability"]
            ),
            seed=0,
            position=0,
            protected_ids=params.get("protected_ids", ()),
            protected=params.get("protect_mode", "skip"),
        )
    if name == "repetition_penalty":
        ignored = params.get("prompt_ignore_length", 0)
        return lc.repetition_penalty(rows, params[name], [ids[ignored:] for ids in both])
    if name in ("frequency_penalty", "presence_penalty"):
        return getattr(lc, name)(rows, params[name], output)
    if name == "min_tokens" and params.get("mode") == "always":
        return lc.banned_tokens(rows, params["stop_token_ids"])
    if name == "min_tokens":
        length = case["inputs"].get("sequence_length", len(output[0]))
        length = max(0, length - params.get("prompt_length", 0))
        at_least = next(params[key] for key in params if key.startswith("min_"))
        ends = params.get("eos_token_id", params.get("stop_token_ids"))
        return lc.min_tokens(rows, at_least, ends, position=length)
    if name == "no_repeat_ngram":
        return lc.no_repeat_ngram(rows, params["ngram_size"], both)
    if name == "bad_words":
        return lc.bad_words(rows, params["bad_words_ids"], both)
    if name == "dry":
        settings = (params.get(x) for x in ("dry_multiplier", "dry_base", "dry_allowed_length"))
        breakers = params["dry_sequence_breakers"]
        return lc.dry(rows, both, *settings, params.get("dry_window"), breakers)
    if name == "dynamic_temperature":
        exponent = params["dynatemp_exponent"]
        return lc.dynamic_temperature(
            rows, params["temperature"], params["dynatemp_range"], exponent
        )
    if name == "mirostat":
        return lc.mirostat(rows, 2 * params["mirostat_tau"])
    if name == "adaptive_p":
        return lc.adaptive_p(rows, params["adaptive_target"])
    if name == "bitmask":
        return lc.token_bitmask(rows, np.array(params["bitmask"], params["dtype"]))
    if name == "token_mask" and "allowed" in params:
        return lc.allowed_tokens(rows, params["allowed"])
    if name == "token_mask":
        return lc.logit_bias(rows, dict.fromkeys(params["banned"], -np.inf))
    if name == "logit_bias":
        bias = {token: float(value) for token, value in params[name].items()}
        return lc.logit_bias(rows, bias)
    return getattr(lc, name)(rows, params["n" if name == "top_n_sigma" else name])


def kept(rows):
    return [np.flatnonzero(np.isfinite(row)).tolist() for row in rows]


def softmax(rows):
    weights = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def check_kept(case, expected):
    rows, before = run(case), logits_of(case)
    assert kept(rows) == expected["kept"]
    if "probs" in expected:
        q = softmax(rows) if expected["probs_renormalized"] else softmax(before) * np.isfinite(rows)
        if not expected["probs_renormalized"] and case["inputs"]["kind"] == "probs":
            q = numbers(case["inputs"]["values"]) * np.isfinite(rows)
        assert_allclose(q, numbers(expected["probs"]), **case["tolerance"])


def removed(case):
    return [np.flatnonzero(row == -np.inf).tolist() for row in run(case)]


def check_masked(case, expected):
    assert removed(case) == expected["masked"]


def check_error(case, expected):
    with pytest.raises(ValueError, match="no finite logit is left"):
        run(case)


def check_logits(case, expected):
    tolerance = {**case["tolerance"], "rtol": max(case["tolerance"]["rtol"], 1.2e-7)}
    assert_allclose(run(case), numbers(expected["logits"]), **tolerance)


def check_probs(case, expected):
    assert_allclose(softmax(run(case)), numbers(expected["probs"]), **case["tolerance"])


def check_kept_count(case, expected):
    assert [len(ids) for ids in kept(run(case))] == expected["count"]


def check_per_engine(case, expected):
    ours = OPEN[case["id"]] if expected["logitchain"] is None else expected["logitchain"]
    assert kept(run(case)) == [ours]


def check_chain(case, expected):
    rows = logits_of(case)
    vocab = rows.shape[1]
    finite = vocab - 1  # the logarithm of 0 is removed from the start
    for stage in expected["stages"]:
        rows = apply(stage["stage"], rows, case["params"], case)
        (ids,) = kept(rows)
        size = stage.get("size", stage.get("size_upper_bound"))
        if stage["assert"] == "==":
            assert len(ids) == min(size, finite)
        else:
            assert 1 <= len(ids) <= size
        assert ids[-1] == stage["first_id"] == vocab - 1
        assert len(ids) == vocab - ids[0]  # always the best so many


def check_validation(case, expected):
    name = case["params"]["param"]
    for bad in expected["invalid"]:
        with pytest.raises(ValueError, match=f"{name} must be in"):
            lc.Params.from_request({name: float(bad) if isinstance(bad, str) else bad})
    for good in expected["valid"]:  # with vLLM's spelling of "off": -1 for top_k
        lc.Params.from_request({name: good}, dialect="vllm")


CHECKS = {
    "kept": check_kept,
    "logits": check_logits,
    "probs": check_probs,
    "kept_count": check_kept_count,
    "per_engine": check_per_engine,
    "chain": check_chain,
    "validation": check_validation,
    "masked": check_masked,
    "error": check_error,
}
PLAIN = [
    case["id"]
    for case in CASES
    if case["expected"]["kind"] in CHECKS and case["id"] not in MIN_KEEP | DIFFERENT.keys()
]


@pytest.mark.parametrize("name", PLAIN)
def test_as_the_engine_does(name):
    case = BY_ID[name]
    assert case["divergent"] is None
    CHECKS[case["expected"]["kind"]](case, case["expected"])


@pytest.mark.parametrize("name", DIFFERENT)
def test_as_we_mean_it(name):
    case, (ours, _) = BY_ID[name], DIFFERENT[name]
    if name in NOT_FIT:
        rows = logits_of(case) if "values" in case["inputs"] else np.full((1, 9), -np.inf)
        for control in (lc.top_k, lc.top_p, lc.min_p, lc.temperature):
            with pytest.raises(ValueError, match=ours):
                control(rows, 1)
    elif isinstance(ours, str):
        with pytest.raises(ValueError, match=re.escape(ours)):
            run(case)
    elif case["expected"]["kind"] == "kept":
        assert kept(run(case)) == ours
    elif case["expected"]["kind"] == "kept_count":
        assert [len(ids) for ids in kept(run(case))] == ours
    elif case["expected"]["kind"] == "masked":
        assert removed(case) == ours
    else:
        assert_allclose(run(case), ours, rtol=1.2e-7)


@pytest.mark.parametrize("name", sorted(MIN_KEEP))
def test_without_a_minimum_to_keep(name):
    """What these controls do without one: the case's own value is what the minimum changed."""
    case = BY_ID[name]
    ours, best = kept(run(case)), [int(row.argmax()) for row in logits_of(case)]
    expected = case["expected"].get("kept") or [case["expected"]["logitchain"]]
    if case["control"] == "xtc":
        assert ours == [[3]]
    elif case["control"] == "epsilon_cutoff":  # it changes the second row alone
        assert ours == [expected[0], [9]]
    else:
        assert ours == [[token] for token in best]
    assert all(set(a) <= set(b) for a, b in zip(ours, expected, strict=True))
    assert ours != expected


# ---- cases that state a property: by hand


def test_mlxvlm_p_less_temps():
    case = BY_ID["mlxvlm/p_less/temps"]
    rows = [lc.temperature(logits_of(case)[0], t) for t in case["params"]["temperature"]]
    counts = [len(ids) for ids in kept(lc.p_less(np.stack(rows)))]
    assert counts == sorted(counts)
    assert (lc.p_less(np.stack(rows)).argmax(axis=1) == rows[0].argmax()).all()


def test_hf_temperature_peak():
    rows = logits_of(BY_ID["hf/temperature/peak"])
    q = softmax(rows)[-1]
    cold, hot = (softmax(lc.temperature(rows, t))[-1] for t in (0.5, 1.3))
    assert cold.max() > q.max() > hot.max()
    assert cold.min() < q.min() < hot.min()


def test_vllm_sampler_penalties():
    batch = lc.Batch(vocab_size=10)
    batch.add(lc.Params(presence_penalty=2.0), [1, 2], [3, 3, 4])
    batch.add(lc.Params(repetition_penalty=0.1), [1, 2], [3, 3, 4])
    presence, repetition = lc.Chain()(np.full((2, 10), 0.01), batch)
    assert_allclose(presence, np.where(np.isin(np.arange(10), [3, 4]), 0.01 - 2.0, 0.01), rtol=1e-6)
    assert_allclose(
        repetition, np.where(np.isin(np.arange(10), [1, 2, 3, 4]), 0.1, 0.01), rtol=1e-6
    )


def test_vllm_topk_few_valid():
    row = np.full(64, -np.inf)
    row[[3, 9, 20, 21, 60]] = [1.0, 5.0, 2.0, 3.0, 4.0]
    assert kept([lc.top_k(row, 50)]) == [[3, 9, 20, 21, 60]]
    assert kept([lc.top_k(row, 3)]) == [[9, 21, 60]]


def test_vllm_topk_equal_logits():
    row = np.full(64, -np.inf)
    row[[7, 30]] = 1.0
    assert kept([lc.top_k(row, 1), lc.top_k(lc.top_p(row, 0.95), 1)]) == [[7], [7]]
    assert kept([lc.top_p(row, 0.95)]) == [[7, 30]]


def test_vllm_topk_tie_break_deterministic():
    row = np.full(2600, -np.inf)
    row[:1000], row[1000:2000] = 1.0, 0.0
    n = BY_ID["vllm_topk/tie_break_deterministic"]["expected"]["n_exact"]
    assert kept([lc.top_p(row, 0.5)]) == [list(range(int(n)))]


@pytest.mark.parametrize("huge", [1e9, 1666666666.6666667])
def test_vllm_topk_forced_huge_logit(huge):
    row = np.random.default_rng(0).normal(size=64).astype(np.float32)
    row[13] = huge
    ours = lc.top_p(row, 0.95)
    assert ours[13] == np.float32(huge)
    assert not np.isnan(softmax(ours[None])).any()


def test_vllm_topk_noncontiguous():
    wide = np.zeros((4, 520), np.float32)
    wide[:, :512] = np.linspace(10, -10, 512) + np.arange(4)[:, None] / 1000
    rows = wide[:, :512]
    expected = lc.top_p(lc.top_k(np.ascontiguousarray(rows), 154), 0.95)
    lc.top_p(lc.top_k(rows, 154), 0.95, out=rows)
    assert_array_equal(rows, expected)
    assert_array_equal(wide[:, 512:], 0)


def test_openvino_min_p_then_top_p():
    case = BY_ID["openvino/min_p_then_top_p"]
    (both,), (alone,) = kept(run(case)), kept(lc.top_p(logits_of(case), 0.95))
    assert set(both) <= set(alone)


def test_no_case_is_lost():
    by_hand = {case["id"] for case in CASES if case["expected"]["kind"] == "property"}
    assert len(by_hand - DIFFERENT.keys()) == 12
    assert len(CASES) == len(PLAIN) + len(DIFFERENT) + len(MIN_KEEP) + 12 == 199
    assert {case["id"] for case in CASES if case["divergent"]} <= DIFFERENT.keys()
