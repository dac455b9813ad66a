"""The chain is the composition of the public functions, in its order, for each row by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
import strategies
from by_hand import BY_HAND, MASKS, ORDERS, check, steps
from logitchain.chain import DEFAULT_ORDER, PRESETS

VOCAB = 24
token = st.integers(0, VOCAB - 1)
history = st.lists(token, max_size=30)


options = {
    name: st.fixed_dictionaries(
        {},
        optional={
            "scope": st.sampled_from(("all", "prompt", "output")),
            "window": st.one_of(st.none(), st.integers(0, 40), st.just(2**70)),
        },
    )
    for name in ("repetition_penalty", "frequency_penalty", "presence_penalty")
} | {
    "no_repeat_ngram": st.fixed_dictionaries(
        {}, optional={"scope": st.sampled_from(("all", "prompt", "output"))}
    ),
    "bad_words": st.fixed_dictionaries(
        {}, optional={"scope": st.sampled_from(("all", "prompt", "output"))}
    ),
    "top_k": st.fixed_dictionaries({}, optional={"ties": st.sampled_from(("first", "all"))}),
    "top_p": st.fixed_dictionaries({}, optional={"ties": st.sampled_from(("first", "all"))}),
    "xtc": st.fixed_dictionaries(
        {"protected_ids": st.lists(token, max_size=3)},
        optional={"protected": st.sampled_from(("skip", "exempt", "exclude"))},
    ),
}

half_off = {
    name: st.one_of(st.just(lc.FIELDS[name].off), strategies.VALUES[name])
    for name in strategies.VALUES
    if name != "top_k"
}


plain_requests = st.builds(
    lc.Params,
    **half_off,
    **strategies.masks(VOCAB),
    top_k=st.integers(0, VOCAB),
    p_less=st.booleans(),
    xtc_probability=st.sampled_from((0.0, 0.5, 1.0)),
    seed=st.one_of(st.integers(-(2**63), 2**64 - 1), st.none()),
    n=st.integers(1, 2),
    logit_bias=st.one_of(st.just({}), strategies.biases(VOCAB)),
)
requests = strategies.with_reasoning(plain_requests, VOCAB)


@st.composite
def batches(draw, min_rows=1):
    """(logits, batch, what each row is)."""
    batch, rows = lc.Batch(VOCAB), []
    for _ in range(draw(st.integers(1, 3))):
        params, prompt, output = draw(requests), draw(history), draw(history)
        for handle in batch.add(params, prompt, output):
            mask = draw(st.one_of(st.none(), st.none(), strategies.bitmasks(VOCAB)))
            batch.set_mask(handle, mask)
            row = {"params": params, "prompt": prompt, "output": output, "mask": mask}
            rows.append(row | {"seed": batch.seed(handle)})
    logits = [draw(strategies.rows(min_vocab=VOCAB, max_vocab=VOCAB)) for _ in rows]
    return np.stack(logits), batch, rows


@given(drawn=batches())
def test_the_default_order(drawn):
    check(*drawn, DEFAULT_ORDER, lc.Chain())


@pytest.mark.parametrize("name", PRESETS)
@given(drawn=batches())
def test_each_preset(name, drawn):
    check(*drawn, ORDERS[name], lc.Chain.preset(name))


@given(drawn=batches(), data=st.data())
def test_any_order_with_any_options(drawn, data):
    names = data.draw(st.lists(st.sampled_from(DEFAULT_ORDER), max_size=10))
    order = [
        (name, data.draw(options[name])) if name in options and data.draw(st.booleans()) else name
        for name in names
    ]
    check(*drawn, order, lc.Chain(order))


@given(drawn=batches())
def test_a_row_is_the_same_alone_and_in_any_order_of_rows(drawn):
    logits, batch, rows = drawn
    chain = lc.Chain(on_invalid="mark")
    ours, tokens = chain(logits, batch), chain.sample(logits, batch)
    for r, row in enumerate(rows):
        alone = lc.Batch(VOCAB)
        params = {name: getattr(row["params"], name) for name in lc.FIELDS}
        params |= {"seed": row["seed"], "n": 1}
        (only,) = alone.add(lc.Params(**params), row["prompt"], row["output"])
        alone.set_mask(only, row["mask"])
        assert_array_equal(chain(logits[r], alone), ours[r])
        assert_array_equal(chain.sample(logits[r : r + 1], alone), tokens[r : r + 1])


# ---- what a chain is made of


def test_every_control_is_in_the_default_order_and_every_preset_is_listed():
    assert tuple(BY_HAND) == DEFAULT_ORDER
    assert (
        *(*MASKS, "green_list", "logit_bias"),
        *("repetition_penalty", "frequency_penalty", "presence_penalty", "dry"),
        *(
            "temperature",
            "dynamic_temperature",
            "quadratic",
            "top_n_sigma",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
        ),
        *("top_a", "epsilon_cutoff", "eta_cutoff", "tfs", "p_less", "top_h", "xtc"),
        *("mirostat", "adaptive_p"),
    ) == DEFAULT_ORDER
    assert set(PRESETS) == set(ORDERS)
    assert [step.name for step in lc.Chain().steps] == list(DEFAULT_ORDER)
    for name, order in ORDERS.items():
        assert [step.name for step in lc.Chain.preset(name).steps] == [n for n, _ in steps(order)]


LOGITS = np.array([[1.0, 3.0, 2.0, 0.5], [0.0, -1.0, 4.0, 4.0]], np.float32)


def pair(first=None, second=None):
    """A batch of two requests over four tokens."""
    batch = lc.Batch(4)
    for seed, fields in enumerate((first, second)):
        batch.add(lc.Params(**({"seed": seed} | (fields or {}))), [0, 1])
    return batch


def test_an_empty_chain_changes_nothing():
    assert_array_equal(lc.Chain(())(LOGITS, pair()), LOGITS)
    assert_array_equal(lc.Chain()(LOGITS, pair()), LOGITS)


def test_a_chain_has_no_state_and_leaves_batch_and_logits_alone():
    chain, batch, logits = lc.Chain(), pair({"top_k": 2}, {"temperature": 2.0}), LOGITS.copy()
    first = [chain.sample(logits, batch) for _ in range(3)]
    assert_array_equal(first, [first[0]] * 3)
    assert_array_equal(logits, LOGITS)
    assert batch.positions.tolist() == [0, 0]
    batch.append(first[0])
    other = pair({"top_k": 2}, {"temperature": 2.0})
    assert_array_equal(chain.sample(logits, other), first[0])


@pytest.mark.parametrize(
    "order",
    [
        ("top_q",),
        (None,),
        (5,),
        ("",),
        (("top_q", {}),),
        ("top_k", "Top_P"),
        ((len, {"a": 1}),),
        ({"top_k": {}},),
        (b"top_k",),
    ],
)
def test_an_unknown_control_is_refused(order):
    with pytest.raises((TypeError, ValueError), match=r"^a control must be .*logit_bias, "):
        lc.Chain(order)


@pytest.mark.parametrize(
    "entry", [("top_k",), ("top_k", {}, {}), ("top_k", 5), ("top_k", None), ("top_k", "ties"), ()]
)
def test_an_entry_is_a_name_or_a_name_with_options(entry):
    with pytest.raises((TypeError, ValueError), match=r"control|options"):
        lc.Chain([entry])


@pytest.mark.parametrize("order", [None, 5, len])
def test_an_order_is_a_sequence(order):
    with pytest.raises(TypeError, match=r"order|control"):
        lc.Chain(order)


@pytest.mark.parametrize(
    ("name", "chosen", "named"),
    [
        ("top_k", {"tie": "all"}, "tie"),
        ("min_p", {"ties": "all"}, "ties"),
        ("temperature", {"scope": "all"}, "scope"),
        ("repetition_penalty", {"scopes": "all"}, "scopes"),
        ("logit_bias", {"window": 1}, "window"),
        ("xtc", {"protect": ()}, "protect"),
        ("top_k", {"rows": None}, "rows"),
    ],
)
def test_an_unknown_option_is_refused_when_the_chain_is_made(name, chosen, named):
    with pytest.raises(TypeError, match=f"'{named}'"):
        lc.Chain([(name, chosen)])


@pytest.mark.parametrize(
    ("name", "chosen", "text"),
    [
        ("top_k", {"ties": "last"}, "ties must be one of first, all, not 'last'"),
        ("top_p", {"ties": None}, "ties must be one of first, all, not None"),
        (
            "repetition_penalty",
            {"scope": "both"},
            "scope must be one of all, prompt, output, not 'both'",
        ),
        ("presence_penalty", {"window": -1}, "window must be in [0, inf), not -1"),
        ("frequency_penalty", {"window": 2.0}, "window must be an integer in [0, inf), not 2.0"),
        (
            "xtc",
            {"protected": "keep"},
            "protected must be one of skip, exempt, exclude, not 'keep'",
        ),
        ("xtc", {"protected_ids": [4]}, "protected_ids must be in [0, 4), not 4"),
    ],
)
def test_a_bad_option_is_refused_by_name(name, chosen, text):
    fields = {"repetition_penalty": 1.5, "frequency_penalty": 1.0, "presence_penalty": 1.0}
    with pytest.raises((TypeError, ValueError), match="must be") as error:
        lc.Chain([(name, chosen)])(LOGITS, pair(fields, fields))
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        *[
            ("xtc", {"protected_ids": ids})
            for ids in (5, None, "12", b"1", [[1]], {1: 2}, object())
        ],
        *[("xtc", {"protected_ids": ids}) for ids in ([-1], [1.0], [True], ["1"], [None], [2, -3])],
        *[("xtc", {"protected_ids": np.array(ids)}) for ids in (-1, [0.5], [True], [[1]], "a")],
        *[("xtc", {"protected": mode}) for mode in (None, "all", 0, ["skip"])],
        *[("top_k", {"ties": ties}) for ties in (None, True, "last", ["all"])],
        *[("bad_words", {"scope": scope}) for scope in (None, "both", 1, ["all"])],
        *[("presence_penalty", {"window": window}) for window in (-1, 1.0, True, "1", [1])],
    ],
)
def test_an_option_is_checked_when_the_chain_is_made(name, chosen):
    (option,) = chosen
    with pytest.raises((TypeError, ValueError), match=f"^{option} must be "):
        lc.Chain([(name, chosen)])


@pytest.mark.parametrize("ids", [(1,), {1}, range(1, 2), np.array([1], np.uint8), [np.int64(1)]])
def test_protected_ids_are_any_integers_and_are_kept_as_they_were(ids):
    chain = lc.Chain([("xtc", {"protected_ids": ids, "protected": "exempt"})])
    if isinstance(ids, list):
        ids[0] = 10**9
    assert chain.steps[0].options["protected_ids"] == (1,)
    batch = pair({"xtc_probability": 1.0, "xtc_threshold": 0.01})
    assert np.isfinite(chain(LOGITS, batch)[0]).tolist() == [False, True, False, True]


def test_an_id_outside_the_vocabulary_is_an_error_of_the_first_use():
    chain = lc.Chain([("xtc", {"protected_ids": [3, 9]})])
    for call in (chain, chain.sample, lambda x, batch: chain.explain(x, batch, 0)):
        with pytest.raises(ValueError, match=r"^protected_ids must be in \[0, 4\), not 9$"):
            call(LOGITS, pair())


@pytest.mark.parametrize("name", ["gpt", "", None, 5, ["vllm"]])
def test_an_unknown_preset_is_refused(name):
    with pytest.raises((TypeError, ValueError), match=r"^preset must be one of llama_cpp, "):
        lc.Chain.preset(name)


@pytest.mark.parametrize("policy", ["ignore", "", 5, True, ["raise"]])
def test_an_unknown_policy_is_refused(policy):
    text = r"^on_invalid must be one of raise, mark, not "
    with pytest.raises(ValueError, match=text):
        lc.Chain(on_invalid=policy)
    with pytest.raises(ValueError, match=text):
        lc.Chain.preset("vllm", on_invalid=policy)
    for call in (lc.Chain().sample, lc.Chain()):
        with pytest.raises(ValueError, match=text):
            call(LOGITS, pair(), on_invalid=policy)


def test_no_policy_at_construction_is_an_error():
    with pytest.raises(ValueError, match="on_invalid must be one of raise, mark, not None"):
        lc.Chain(on_invalid=None)


# ---- until


@pytest.mark.parametrize("name", DEFAULT_ORDER)
def test_until_stops_after_a_control(name):
    fields = {"top_k": 3, "temperature": 0.5, "repetition_penalty": 2.0, "min_p": 0.1}
    fields |= {"logit_bias": {2: 3.0}, "top_p": 0.9, "seed": 3}
    batch = pair(fields, {"presence_penalty": 1.0})
    order = DEFAULT_ORDER[: DEFAULT_ORDER.index(name) + 1]
    assert_array_equal(lc.Chain()(LOGITS, batch, until=name), lc.Chain(order)(LOGITS, batch))


def test_until_is_a_control_of_this_chain():
    for until in ("xtc", "top_q", "", 5):
        with pytest.raises(ValueError, match=r"^until must be one of top_k, min_p, not "):
            lc.Chain(("top_k", "min_p"))(LOGITS, pair(), until=until)


def test_until_stops_at_the_first_of_that_name_and_at_a_callable():
    def double(rows, batch):
        rows *= 2

    chain = lc.Chain((double, "top_k", double))
    assert_array_equal(chain(LOGITS, pair(), until="double"), LOGITS * 2)
    assert_array_equal(chain(LOGITS, pair()), LOGITS * 4)


# ---- controls of one's own


def ban(rows, batch):
    rows[:, 3] = -np.inf


def test_a_callable_is_a_control():
    chain = lc.Chain(("top_k", ban, "temperature"))
    assert [step.name for step in chain.steps] == ["top_k", "ban", "temperature"]
    batch = pair({"top_k": 2}, {"top_k": 2, "temperature": 0.5})
    expected = [[-np.inf, 3, 2, -np.inf], [-np.inf, -np.inf, 8, -np.inf]]
    assert_array_equal(chain(LOGITS, batch), expected)
    assert chain.sample(LOGITS, batch)[1] == 2


def test_a_callable_sees_float32_rows_as_they_stand_and_the_batch():
    seen = []

    class Look:
        def __call__(self, rows, batch):
            seen.append((rows.copy(), rows.dtype, rows.flags.c_contiguous, batch))

    batch, chain = pair({"top_k": 1}), lc.Chain((Look(), ("top_k", {}), Look()))
    chain(LOGITS.astype(np.float64), batch)
    chain.sample(LOGITS[:, ::-1][:, ::-1], batch)
    assert len(seen) == 4
    for rows, dtype, contiguous, of in seen:
        assert rows.shape == (2, 4)
        assert (dtype, contiguous) == (np.float32, True)
        assert of is batch
    assert_array_equal(seen[0][0], LOGITS)
    assert_array_equal(seen[1][0], [[-np.inf, 3, -np.inf, -np.inf], LOGITS[1]])


def test_a_callables_error_comes_through():
    def fails(rows, batch):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        lc.Chain((fails,))(LOGITS, pair())


SPOILERS = {
    "nan": (lambda row: row.__setitem__(2, np.nan), "token 2 is nan"),
    "inf": (lambda row: row.__setitem__(1, np.inf), "token 1 is inf"),
    "empty": (lambda row: row.fill(-np.inf), "no finite logit is left"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILERS.values(), ids=SPOILERS)
@pytest.mark.parametrize("order", [("spoils",), ("top_k", "spoils", "temperature", "top_p")])
def test_a_callable_may_spoil_a_row(spoil, reason, order):
    def spoils(rows, batch):
        spoil(rows[1])

    chain = lc.Chain([spoils if name == "spoils" else name for name in order])
    batch = pair({"temperature": 0.5, "top_p": 0.5})
    for call in (chain, chain.sample):
        with pytest.raises(ValueError, match=f"^logits: row 1, {reason} after spoils$"):
            call(LOGITS, batch)
    tokens = chain.sample(LOGITS, batch, on_invalid="mark")
    assert tokens.tolist() == [1, -1]
    assert batch.status == ["ok", f"{reason} after spoils"]


# ---- invalid rows


def spoiled(reason):
    logits = np.vstack([LOGITS, LOGITS[::-1]])
    if reason == "token 3 is nan":
        logits[1, 3] = np.nan
    elif reason == "token 0 is inf":
        logits[1, 0] = np.inf
    else:
        logits[1] = -np.inf
    return logits


REASONS = ("token 3 is nan", "token 0 is inf", "no finite logit is left")


def four():
    batch = lc.Batch(4)
    for seed, temperature in enumerate((0.5, 1.0, 2.0, 1.0)):
        batch.add(lc.Params(seed=seed, temperature=temperature, top_p=0.9), [1])
    return batch


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("name", ["default", *PRESETS])
def test_an_invalid_row_raises_or_is_marked_and_moves_no_other(name, reason):
    chain = lc.Chain() if name == "default" else lc.Chain.preset(name)
    logits, good = spoiled(reason), np.vstack([LOGITS, LOGITS[::-1]])
    for call in (chain, chain.sample):
        with pytest.raises(ValueError, match=f"^logits: row 1, {reason}$"):
            call(logits, four())
    batch = four()
    expected, wanted = chain(good, batch), chain.sample(good, batch)
    ours = chain(logits, batch, on_invalid="mark")
    assert batch.status == ["ok", reason, "ok", "ok"]
    tokens = chain.sample(logits, batch, on_invalid="mark")
    assert batch.status == ["ok", reason, "ok", "ok"]
    others = [0, 2, 3]
    assert_array_equal(ours[others], expected[others])
    assert_array_equal(ours[1], [-np.inf] * 4)
    assert_array_equal(tokens[others], wanted[others])
    assert tokens[1] == -1
    assert_array_equal(logits, spoiled(reason))
    chain.sample(good, batch)
    assert batch.status == ["ok"] * 4


def test_every_row_may_be_marked_each_for_its_own_reason():
    logits = np.stack([spoiled(reason)[1] for reason in REASONS] + [LOGITS[0]])
    batch = four()
    chain = lc.Chain(on_invalid="mark")
    assert chain.sample(logits, batch).tolist()[:3] == [-1, -1, -1]
    assert batch.status == [*REASONS, "ok"]
    with pytest.raises(ValueError, match=r"^logits: row 0, token 3 is nan$"):
        chain.sample(logits, batch, on_invalid="raise")


def test_a_row_that_its_bias_empties():
    banned = {"logit_bias": dict.fromkeys(range(4), -np.inf)}
    batch, reason = pair({"seed": 7}, banned), "no finite logit is left after logit_bias"
    for call in (lc.Chain(), lc.Chain().sample):
        with pytest.raises(ValueError, match=f"^logits: row 1, {reason}$"):
            call(LOGITS, batch)
    tokens = lc.Chain().sample(LOGITS, batch, on_invalid="mark")
    assert tokens.tolist() == [lc.sample(LOGITS[0], seed=7, position=0), -1]
    assert batch.status == ["ok", reason]


def test_a_bias_may_ban_all_that_was_left():
    logits = np.array([[1.0, -np.inf, -np.inf, 0.0]] * 2, np.float32)
    batch = pair(None, {"logit_bias": {0: -np.inf, 3: -np.inf, 1: 5.0}})
    assert lc.Chain(on_invalid="mark").sample(logits, batch)[1] == -1
    assert batch.status[1] == "no finite logit is left after logit_bias"


def test_the_first_reason_stays():
    logits = LOGITS.copy()
    logits[1, 2] = np.nan
    batch = pair(None, {"logit_bias": dict.fromkeys(range(4), -np.inf)})
    assert lc.Chain(on_invalid="mark").sample(logits, batch)[1] == -1
    assert batch.status == ["ok", "token 2 is nan"]


@pytest.mark.parametrize("temperature", [1e-9, 3e-9, 1e-12, 1e-30, 5e-324, 0.5, 0.01])
def test_a_masked_logit_at_any_temperature(temperature):
    """Some engines mask with the lowest float rather than -inf."""
    lowest = np.finfo(np.float32).min
    logits = np.array([[lowest, 1.0, 2.0, -3.4e38], [lowest, 0.0, -5.0, lowest]], np.float32)
    batch = pair({"temperature": temperature}, {"temperature": temperature})
    ours = lc.Chain()(logits, batch)
    assert np.isfinite(ours).all()
    assert (ours[:, [0, 3]] < ours[:, 1:2]).all()
    assert set(lc.Chain().sample(logits, batch).tolist()) <= {1, 2}


# ---- shapes and out


@pytest.mark.parametrize("shape", [(2, 5), (2, 3), (1, 4), (3, 4), (4,), (4, 2), (8,), (0, 4)])
def test_logits_have_the_batchs_shape(shape):
    logits = np.zeros(shape, np.float32)
    batch = pair()
    for call in (lc.Chain(), lc.Chain().sample, lambda x, b: lc.Chain().explain(x, b, 0)):
        with pytest.raises(ValueError, match=r"^logits must have the batch's shape \(2, 4\), not "):
            call(logits, batch)


def test_one_row_may_come_without_its_axis():
    batch = lc.Batch(4)
    batch.add(lc.Params(seed=5, top_k=2))
    chain = lc.Chain()
    assert_array_equal(chain(LOGITS[0], batch), chain(LOGITS[:1], batch)[0])
    assert chain(LOGITS[0], batch).shape == (4,)
    assert_array_equal(chain.sample(LOGITS[0], batch), chain.sample(LOGITS[:1], batch))
    assert chain.sample(LOGITS[0], batch).shape == (1,)
    with pytest.raises(ValueError, match=r"batch's shape \(1, 4\), not \(5,\)"):
        chain(np.zeros(5, np.float32), batch)


@pytest.mark.parametrize("batch", [None, 5, [], "batch", lc.Batch])
def test_a_batch_is_a_batch(batch):
    for call in (lc.Chain(), lc.Chain().sample, lambda x, b: lc.Chain().explain(x, b, 0)):
        with pytest.raises((TypeError, ValueError), match="batch"):
            call(LOGITS, batch)


def test_out():
    chain, batch = lc.Chain(), pair({"top_k": 2}, {"temperature": 2.0})
    expected = chain(LOGITS, batch)
    for out in (np.empty((2, 4), np.float32), np.empty((4, 2), np.float32).T):
        assert chain(LOGITS, batch, out=out) is out
        assert_array_equal(out, expected)
    own = LOGITS.copy()
    assert chain(own, batch, out=own) is own
    assert_array_equal(own, expected)
    wide = np.repeat(LOGITS, 2, 1)
    assert_array_equal(chain(wide[:, ::2], batch, out=wide[:, ::2]), expected)
    assert_array_equal(wide[:, 1::2], LOGITS)
    with pytest.raises(TypeError, match="out must be a writeable float32 array"):
        chain(LOGITS, batch, out=np.empty((2, 4)))


def test_out_may_overlap_the_logits():
    chain, batch = lc.Chain(), pair({"top_k": 2}, {"temperature": 2.0})
    expected = chain(LOGITS, batch)
    for start in range(9):
        memory = np.zeros(16, np.float32)
        logits, out = memory[4:12].reshape(2, 4), memory[start : start + 8].reshape(2, 4)
        logits[:] = LOGITS
        assert_array_equal(chain(logits, batch, out=out), expected)
    narrow = memory.view(np.float16)[:8].reshape(2, 4)
    narrow[:] = LOGITS
    assert_array_equal(chain(narrow, batch, out=memory[:8].reshape(2, 4)), expected)


# ---- XTC in a request


def test_xtc_with_a_threshold_of_0_is_off_in_a_request():
    batch = pair({"xtc_probability": 1.0}, {"xtc_probability": 1.0, "xtc_threshold": 0.0})
    assert_array_equal(lc.Chain()(LOGITS, batch), LOGITS)
    literally = lc.xtc(LOGITS, 0.0, 1.0, seed=0, position=0)
    assert np.isfinite(literally).sum() == 2


def test_xtc_tosses_a_coin_for_each_row_and_step():
    batch = lc.Batch(4)
    batch.add(lc.Params(n=200, seed=4, xtc_probability=0.5, xtc_threshold=0.05))
    logits = np.tile(LOGITS[0], (200, 1))
    before = lc.Chain()(logits, batch)[:, 1] == -np.inf
    batch.append([0] * 200)
    after = lc.Chain()(logits, batch)[:, 1] == -np.inf
    assert 60 < before.sum() < 140
    assert 60 < (before != after).sum() < 140
