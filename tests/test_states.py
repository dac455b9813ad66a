"""States that controls carry from token to token: they follow the draw, and go back with it."""

import copy
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal

import logitchain as lc
from effort import effort
from logitchain.testing import check_control

VOCAB = 300
TAU, ETA = 2.5, 0.3
ROWS = np.random.default_rng(7).normal(0, 2, (40, VOCAB)).astype(np.float32)
CHAINS = {
    "default": lc.Chain(),
    "candidates": lc.Chain(["temperature", "top_k", "mirostat", "min_p"]),
    "llama_cpp": lc.Chain.preset("llama_cpp"),
}


def batch_of(**more):
    batch = lc.Batch(VOCAB)
    request = {"temperature": 0.9, "mirostat_tau": TAU, "mirostat_eta": ETA, "seed": 5}
    (row,) = batch.add(lc.Params(**request), **more)
    return batch, row


def by_hand(count, mu=2 * TAU, tokens=None, first=0):
    """The tokens and the mu after each, with the pure functions alone."""
    drawn, trail = [], []
    for i in range(count):
        row = lc.mirostat(lc.temperature(ROWS[first + i], 0.9), mu)
        token = int(lc.sample(row, seed=5, position=first + i)) if tokens is None else tokens[i]
        mu = lc.mirostat_update(mu, lc.token_logprobs(row, token), TAU, ETA)
        drawn.append(token)
        trail.append(mu)
    return drawn, trail


TOKENS, MUS = by_hand(30)


def run(chain, batch, first, last):
    for i in range(first, last):
        tokens = chain.sample(ROWS[i : i + 1], batch)
        batch.append(tokens)
        yield int(tokens[0])


@pytest.mark.parametrize("name", CHAINS)
def test_the_state_follows_the_draw(name):
    batch, row = batch_of()
    assert batch.state(row) == {}
    for i, token in enumerate(run(CHAINS[name], batch, 0, 30)):
        assert token == TOKENS[i]
        assert batch.state(row) == {"mirostat_mu": MUS[i]}


def test_rollback_takes_it_back():
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 20))
    batch.rollback(row, 5)
    assert batch.state(row) == {"mirostat_mu": MUS[14]}
    assert list(run(lc.Chain(), batch, 15, 20)) == TOKENS[15:20]
    batch.rollback(row, 20)
    assert batch.state(row) == {}


def test_a_row_that_was_removed_goes_on():
    batch, row = batch_of(output_tokens=TOKENS[:10], state={"mirostat_mu": MUS[9]})
    assert batch.state(row) == {"mirostat_mu": MUS[9]}
    assert list(run(lc.Chain(), batch, 10, 15)) == TOKENS[10:15]
    batch.rollback(row, 14)  # it is not known what the state was
    assert batch.state(row) == {}


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))]
)
def test_copies_keep_it_and_what_was_drawn(copied):
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 10))
    tokens = lc.Chain().sample(ROWS[10:11], batch)
    other = copied(batch)
    other.append(tokens)
    assert other.state(row) == {"mirostat_mu": MUS[10]}
    assert batch.state(row) == {"mirostat_mu": MUS[9]}
    batch.append(tokens)
    batch.rollback(row, 3)
    assert other.state(row) == {"mirostat_mu": MUS[10]}


def test_it_moves_with_its_row():
    batch, row = batch_of()
    (other,) = batch.add(lc.Params(seed=1))
    tokens = lc.Chain().sample(ROWS[[0, 1]], batch)
    batch.reorder([other, row])
    batch.add(lc.Params(seed=2))
    batch.append(tokens[[1, 0]], [other, row])
    assert batch.state(row) == {"mirostat_mu": MUS[0]}
    assert batch.state(other) == {}
    batch.remove(other)
    assert batch.state(row) == {"mirostat_mu": MUS[0]}


def test_another_token_leaves_it_as_it_is():
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 5))
    (drawn,) = lc.Chain().sample(ROWS[5:6], batch)
    batch.append([(drawn + 1) % VOCAB])
    assert batch.state(row) == {"mirostat_mu": MUS[4]}
    batch.rollback(row, 1)
    batch.append([drawn])  # the draw is forgotten
    assert batch.state(row) == {"mirostat_mu": MUS[4]}


def test_follow():
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 5))
    (drawn,) = lc.Chain().sample(ROWS[5:6], batch)
    batch.follow(row, [*TOKENS[:5], int(drawn)])
    assert batch.state(row) == {"mirostat_mu": MUS[5]}
    batch.follow(row, TOKENS[:3])
    assert batch.state(row) == {"mirostat_mu": MUS[2]}
    batch.follow(row, [*TOKENS[:2], 9, 9])
    assert batch.state(row) == {"mirostat_mu": MUS[1]}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("is_proposed", [True, False])
@pytest.mark.parametrize("wrong", [0, 2, 5])
def test_verify_carries_it(at_once, is_proposed, wrong):
    batch, row = batch_of()
    chain = lc.Chain()
    list(run(chain, batch, 0, 10))
    drafts = [*TOKENS[10:15]]
    if wrong < 5:
        drafts[wrong] = (drafts[wrong] + 1) % VOCAB
    proposed = [np.where(np.isinf(ROWS[10:15]), 0, ROWS[10:15])] if is_proposed else None
    before = ROWS[10:16].copy()
    (tokens,) = chain.verify(ROWS[10:16], batch, [drafts], proposed)
    assert_array_equal(ROWS[10:16], before)
    if not is_proposed:
        assert tokens.tolist() == TOKENS[10 : 11 + min(wrong, 5)]
    assert batch.state(row) == {"mirostat_mu": MUS[9]}  # the batch has not moved on
    mus = by_hand(len(tokens), MUS[9], tokens.tolist(), 10)[1]
    if at_once:
        batch.append(tokens, [row] * len(tokens))
        assert batch.state(row) == {"mirostat_mu": mus[-1]}
        return
    for token, mu in zip(tokens, mus, strict=True):
        batch.append([token])
        assert batch.state(row) == {"mirostat_mu": mu}


def test_a_token_that_verify_did_not_give_ends_what_it_has_found():
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 10))
    lc.Chain().verify(ROWS[10:13], batch, [TOKENS[10:12]])
    batch.append([(TOKENS[10] + 1) % VOCAB])
    batch.append([TOKENS[11]])
    assert batch.state(row) == {"mirostat_mu": MUS[9]}


def test_verify_keeps_the_status_of_each_row():
    batch = lc.Batch(4)
    first, second = batch.add(
        lc.Params(temperature=0, mirostat_tau=3.0, bad_words=[[1, 2], [1, 0]], n=2)
    )
    logits = np.zeros((4, 4), np.float32)
    logits[0, 1], logits[1:, 3] = 9, 9
    logits[0, 3] = -np.inf
    tokens = lc.Chain().verify(logits, batch, [[], [3, 3]])
    assert [x.tolist() for x in tokens] == [[1], [3, 3, 3]]
    assert batch.status == ["ok", "ok"]
    assert batch.positions.tolist() == [0, 0]
    assert batch.rows == [first, second]


def test_carry_leaves_the_status_alone():
    batch, row = batch_of()
    (other,) = batch.add(lc.Params(seed=1))
    logits = ROWS[:2].copy()
    logits[1, 3] = np.nan
    lc.Chain().sample(logits, batch, on_invalid="mark")
    marked = ["ok", "token 3 is nan"]
    assert batch.status == marked
    lc.Chain().carry(logits, batch, np.array([TOKENS[0], -1]))
    assert batch.status == marked
    batch.append([TOKENS[0]], [row])
    assert batch.state(row) == {"mirostat_mu": MUS[0]}
    assert batch.state(other) == {}


@pytest.mark.parametrize("tokens", [[300], [2**40], [0, 1], [], [True], [[1]], [0.5], ["a"], 3])
def test_carry_refuses_what_append_refuses(tokens):
    batch, _ = batch_of()
    with pytest.raises((TypeError, ValueError), match="tokens must be"):
        lc.Chain().carry(ROWS[:1], batch, tokens)


def test_two_chains_on_one_batch():
    """A state follows the draw of the chain that came last, and nothing else of another chain."""
    both, one = lc.Chain(["mirostat", "adaptive_p"]), lc.Chain(["mirostat"])
    batch = lc.Batch(4)
    params = lc.Params(mirostat_tau=2.0, adaptive_target=0.5, seed=1)
    given = {"mirostat_mu": 3.0, "adaptive_sum": 5.0, "adaptive_weight": 10.0}
    (row,) = batch.add(params, state=given)
    both.sample([[0.0] * 4], batch)  # is not appended
    batch.append(one.sample([[3.0, 2.0, 1.0, 0.0]], batch))
    state = batch.state(row)
    assert state["mirostat_mu"] != 3.0
    assert (state["adaptive_sum"], state["adaptive_weight"]) == (5.0, 10.0)


def test_what_changes_nothing_keeps_the_draw():
    batch, row = batch_of()
    tokens = lc.Chain().sample(ROWS[:1], batch)
    batch.rollback(row, 0)
    batch.follow(row, batch.output(row))
    batch.append([], [])
    batch.append(tokens)
    assert batch.state(row) == {"mirostat_mu": MUS[0]}


def test_an_incomplete_state_is_none():
    for state in ({"adaptive_weight": 10.0}, {"adaptive_sum": 0.0, "adaptive_weight": 0.0}):
        batch = lc.Batch(4)
        batch.add(lc.Params(adaptive_target=0.5, seed=1), state=state)
        ours = lc.Chain(["adaptive_p"])([[3.0, 2.0, 1.0, 0.0]], batch)
        assert_array_equal(ours, lc.adaptive_p([[3.0, 2.0, 1.0, 0.0]], 0.5))


def test_a_callable_may_come_after_it():
    def nothing(rows, batch):
        rows += 0.0

    batch, row = batch_of()
    order = ["temperature", "mirostat", nothing, "top_p"]
    assert list(run(lc.Chain(order), batch, 0, 10)) == TOKENS[:10]
    assert batch.state(row) == {"mirostat_mu": MUS[9]}
    batch, row = batch_of()
    assert list(run(lc.Chain([nothing, *order[:2]]), batch, 0, 10)) == TOKENS[:10]
    assert batch.state(row) == {"mirostat_mu": MUS[9]}


def test_looking_does_not_move_it():
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 5))
    settings = {x.name: x.setting for x in lc.Chain().explain(ROWS[5:6], batch, row).stages}
    assert settings["mirostat"] == f"2.5, 0.3, mirostat_mu {MUS[4]:g}"
    (drawn,) = lc.Chain().sample(ROWS[5:6], batch)
    lc.Chain()(ROWS[5:6], batch)
    assert lc.Chain().explain(ROWS[5:6], batch, row).token == drawn
    assert lc.Chain().sample_with_logprobs(ROWS[5:6], batch).tokens[0] == drawn
    batch.append([drawn])
    assert batch.state(row) == {"mirostat_mu": MUS[5]}


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_on_threads_beside_other_rows_and_of_other_types(kind):
    rows, vocab = effort((4, 300), (24, 70_000))
    logits = np.random.default_rng(1).normal(0, 2, (rows, vocab)).astype(kind)
    batches = [lc.Batch(vocab) for _ in range(2)]
    for seed in range(rows):
        fields = {"mirostat_tau": 4.0} if seed % 3 == 0 else {"adaptive_target": 0.2, "top_k": 30}
        for batch in batches:
            batch.add(lc.Params(seed=seed, **(fields if seed % 3 < 2 else {})))
    for _ in range(3):
        both = [lc.Chain(threads=n).sample(logits, b) for n, b in zip((1, 2), batches, strict=True)]
        assert_array_equal(*both)
        for batch in batches:
            batch.append(both[0])
    states = [[batch.state(row) for row in batch.rows] for batch in batches]
    assert states[0] == states[1]
    assert [sorted(x) for x in states[0][:3]] == [
        ["mirostat_mu"],
        ["adaptive_sum", "adaptive_weight"],
        [],
    ]


NAMED = "a name in state must be one of mirostat_mu, adaptive_sum, adaptive_weight"


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"top_k": 1.0}, f"{NAMED}, not 'top_k'"),
        ({"mirostat_nu": 1.0}, f"{NAMED}, not 'mirostat_nu'; did you mean 'mirostat_mu'?"),
        ({3: 1.0}, f"{NAMED}, not 3"),
        ({"mirostat_mu": np.inf}, "state['mirostat_mu'] must be in (-inf, inf), not inf"),
    ],
)
def test_a_bad_state(state, error):
    batch = lc.Batch(4)
    with pytest.raises(ValueError, match="state") as raised:
        batch.add(lc.Params(), state=state)
    assert str(raised.value) == error
    with pytest.raises(TypeError, match="state must be a mapping of names to numbers, not 3"):
        batch.add(lc.Params(), state=3)
    assert len(batch) == 0


def test_a_token_that_the_chain_removes_leaves_it_as_it_is():
    batch, row = batch_of()
    list(run(lc.Chain(), batch, 0, 5))
    gone = int(np.argmin(ROWS[5]))
    lc.Chain().carry(ROWS[5:6], batch, np.array([gone]))
    batch.append([gone])
    assert batch.state(row) == {"mirostat_mu": MUS[4]}
    first, row = batch_of()
    lc.Chain().carry(ROWS[0:1], first, np.array([gone]))
    first.append([gone])
    assert first.state(row) == {}


def test_a_negative_mu_leaves_the_best():
    for order in (["mirostat"], ["top_k", "mirostat"]):
        batch, _ = batch_of(state={"mirostat_mu": -5.0})
        assert np.isfinite(lc.Chain(order)(ROWS[0], batch)).sum() == 1
        assert lc.Chain(order).sample(ROWS[0], batch)[0] == ROWS[0].argmax()


# ---- a control of one's own


@njit
def keep_around(row, ids, request):
    """Keep the tokens near the best, the less the longer the row has had it its way."""
    count = 0.0 if np.isnan(request.values[1]) else request.values[1]
    cut = row.max() - request.values[0] / (1.0 + count)
    for i in range(row.size):
        if row[i] < cut:
            row[i] = -np.inf


@njit
def count_sure(values, logprob, state):
    count = 0.0 if np.isnan(values[1]) else values[1]
    state[0] = count + np.exp(logprob)


REACH = lc.Field("reach", off=np.inf, range="[0, inf]")
AROUND = lc.Control(
    name="around",
    fields=[REACH],
    kind="cut",
    kernel=keep_around,
    state=("kept_so_far",),
    update=count_sure,
    follows="before",
)


@dataclass(frozen=True, kw_only=True)
class Reach(lc.Params):
    reach: float = lc.field(np.inf, "[0, inf]")


def test_a_control_of_ones_own_carries_a_state():
    if effort(False, True):  # a minute as plain Python
        check_control(AROUND, {"reach": [0.5, 3.0, 8.0]}, rounds=1)
    batch = lc.Batch(VOCAB)
    (row,) = batch.add(Reach(reach=4.0, seed=3))
    (other,) = batch.add(lc.Params(seed=3))
    chain, count = lc.Chain([AROUND]), 0.0
    for i in range(10):
        whole = ROWS[[i, i]]
        left = np.where(whole[0] < whole[0].max() - 4.0 / (1.0 + count), -np.inf, whole[0])
        tokens = chain.sample(whole, batch)
        assert tokens[0] == lc.sample(left, seed=3, position=i)
        count += np.exp(np.float64(lc.token_logprobs(whole[0], tokens[0])))
        batch.append(tokens)
        assert batch.state(row)["kept_so_far"] == pytest.approx(count, rel=1e-6)
        assert batch.state(other) == {}
    assert batch["reach"].tolist() == [4.0, pytest.approx(np.nan, nan_ok=True)]


@pytest.mark.parametrize("first", [lambda chain, *_: None, lc.Chain.sample])
def test_verify_may_be_the_first_call(first):
    chain, drafts = lc.Chain([AROUND, "mirostat"]), [[1, 2]]
    states = []
    for params in (Reach(reach=4.0, mirostat_tau=3.0, seed=3), Reach(reach=4.0, seed=3)):
        batch = lc.Batch(VOCAB)
        (row,) = batch.add(params)
        first(chain, ROWS[:1], batch)
        (tokens,) = chain.verify(ROWS[:3], batch, drafts)
        batch.append(tokens, [row] * len(tokens))
        assert batch.output(row) == tokens.tolist()
        assert "kept_so_far" in batch.state(row)
        states.append(batch.state(row))
    assert "mirostat_mu" in states[0]
    assert "mirostat_mu" not in states[1]


@dataclass(frozen=True, kw_only=True)
class Kept(Reach):
    kept_so_far: float = lc.field(1.0, "[0, inf]")


def test_a_state_must_not_have_the_name_of_a_field():
    batch = lc.Batch(VOCAB)
    batch.add(Kept(reach=4.0, kept_so_far=7.0))
    with pytest.raises(
        ValueError, match="a state must not have the name of a request field, 'kept"
    ):
        lc.Chain([AROUND]).sample(ROWS[:1], batch)
    for name in ("mirostat_mu", "token_bitmask"):
        with pytest.raises(ValueError, match="state of around must have names of its own, not"):
            lc.Chain([replace(AROUND, state=(name,))])


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"update": None}, "state and update must be given together"),
        ({"state": ()}, "state and update must be given together"),
        ({"state": ("top_k",)}, "state must be names that no field has, not 'top_k'"),
        ({"state": ("reach",)}, "state must be names that no field has, not 'reach'"),
        ({"state": "mu"}, "state must be distinct names, not 'mu'"),
        ({"state": ("a", "a")}, "state must be distinct names, not ('a', 'a')"),
        ({"state": ("a b",)}, "state must be names that no field has, not 'a b'"),
        ({"follows": "now"}, "follows must be one of before, after, not 'now'"),
        ({"kind": "adjust"}, "state must be empty for a control of kind adjust"),
        ({"state": tuple("abcdefghi")}, "fields and state must be at most 9, not 10"),
    ],
)
def test_a_record_that_is_inconsistent(changed, error):
    record = {"name": "around", "fields": [REACH], "kind": "cut", "kernel": keep_around}
    record |= {"state": ("kept_so_far",), "update": count_sure} | changed
    with pytest.raises(ValueError, match="must be") as raised:
        lc.Control(**record)
    assert str(raised.value) == error
