"""Verification of trees of drafts: the tokens without drafts, and which nodes are kept."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import logitchain as lc
from drafting import alone, plain, situations
from observed import state


def paths_of(drafts, parents):
    """The tokens up to each node, those of the root first."""
    paths = [[]]
    for token, parent in zip(drafts, parents, strict=True):
        paths.append([*paths[parent + 1], int(token)])
    return paths


def side_by_side(sequences):
    """A tree in which sequences share no node, whatever they begin with."""
    drafts, parents = [], []
    for sequence in sequences:
        parents += [-1, *range(len(drafts), len(drafts) + len(sequence) - 1)][: len(sequence)]
        drafts += sequence
    return drafts, parents


@st.composite
def trees(draw, future, vocab):
    """Drafts and parents: some sequences that begin as the future does, merged or not."""
    token = st.integers(0, vocab - 1)
    sequences = [
        future[: draw(st.integers(0, len(future) - 3))] + draw(st.lists(token, max_size=2))
        for _ in range(draw(st.integers(0, 4)))
    ]
    if draw(st.booleans()):
        return lc.draft_tree(sequences)
    drafts, parents = side_by_side(sequences)
    if draw(st.booleans()):  # level by level: parents are not next to their children
        depths = [len(path) for path in paths_of(drafts, parents)[1:]]
        order = np.argsort(depths, kind="stable")
        place = {-1: -1} | {int(old): new for new, old in enumerate(order)}
        return [drafts[x] for x in order], [place[parents[x]] for x in order]
    return drafts, parents


@given(situations(), st.data())
def test_the_tokens_are_those_without_drafts(situation, data):
    chain, batch, model = situation
    futures = [plain(chain, batch, row, model, 8) for row in batch.rows]
    given_trees = [data.draw(trees(future, batch.vocab_size)) for future in futures]
    paths = [paths_of(*tree) for tree in given_trees]
    logits = np.stack(
        [
            model([*batch.output(row), *path])
            for row, nodes in zip(batch.rows, paths, strict=True)
            for path in nodes
        ]
    )
    drafts, parents = zip(*given_trees, strict=True)
    before = state(batch)
    tokens = chain.verify(logits, batch, drafts, parents=parents)
    assert state(batch) == before
    for row, new, future, nodes, tree in zip(
        batch.rows, tokens, futures, paths, given_trees, strict=True
    ):
        kept = max(len(path) for path in nodes if path == future[: len(path)])
        assert new.tolist() == future[: kept + 1]
        accepted = lc.accepted_drafts(new, *tree).tolist()
        assert [nodes[node + 1] for node in accepted] == [
            new[:n].tolist() for n in range(1, kept + 1)
        ]
        assert [tree[1][node] for node in accepted] == [-1, *accepted][:kept]
        output = [batch.output(row) + path for path in nodes]
        rows = np.stack([chain(model(one), alone(batch, row, one)) for one in output])
        key = {"seed": batch.seed(row), "position": len(batch.output(row))}
        assert_array_equal(lc.verify(rows, tree[0], parents=tree[1], **key), new)


def test_rows_with_and_without_a_tree():
    batch = lc.Batch(4)
    batch.add(lc.Params(n=3, seed=1, temperature=0))
    logits = 9 * np.eye(4, dtype=np.float32)[[1, 0, 2, 0, 1, 2, 3, 3, 1]]
    drafts, parents = [[3, 1, 2], [1, 2], [0]], [[-1, -1, 1], None, [-1]]
    tokens = lc.Chain().verify(logits, batch, drafts, parents=parents)
    assert [x.tolist() for x in tokens] == [[1, 2, 0], [1, 2, 3], [3]]
    chains = [[-1, 0, 1], [-1, 0], [-1]]
    again = lc.Chain().verify(logits, batch, drafts, parents=chains)
    for ours, theirs in zip(again, lc.Chain().verify(logits, batch, drafts), strict=True):
        assert_array_equal(ours, theirs)


def test_of_equal_nodes_the_logits_after_the_first_are_read():
    rows = 9 * np.eye(4, dtype=np.float32)[[1, 2, 3, 0, 0]]
    tree = {"drafts": [1, 1, 3, 2], "parents": [-1, -1, 1, 1]}
    assert lc.verify(rows, **tree, seed=0, position=0).tolist() == [1, 2, 0]
    assert lc.accepted_drafts([1, 2, 0], **tree).tolist() == [1, 3]
    assert lc.accepted_drafts([1, 2], **tree).tolist() == [0]


def test_a_sequence_of_drafts_may_be_known_and_have_parents():
    rows = np.random.default_rng(0).normal(0, 1, (4, 9)).astype(np.float32)
    key = {"seed": 2, "position": 5}
    expected = lc.verify(rows, [1, 2, 3], rows[1:], **key)
    assert_array_equal(lc.verify(rows, [1, 2, 3], rows[1:], parents=[-1, 0, 1], **key), expected)
    with pytest.raises(ValueError, match=r"^proposed must be None where drafts form a tree"):
        lc.verify(rows, [1, 2, 3], rows[1:], parents=[-1, -1, 1], **key)


def test_rows_off_the_path_are_not_judged():
    rows = 9 * np.eye(4, dtype=np.float32)[[1, 0, 2, 0]]
    rows[[1, 3]] = np.nan
    tree = {"drafts": [[0, 1, 3]], "parents": [[-1, -1, 1]]}
    batch = lc.Batch(4)
    batch.add(lc.Params(temperature=0))
    assert lc.Chain().verify(rows, batch, **tree)[0].tolist() == [1, 2]
    rows[2] = np.nan
    with pytest.raises(ValueError, match=r"^logits: row 2, token 0 is nan$"):
        lc.Chain().verify(rows, batch, **tree)
    with pytest.raises(ValueError, match=r"^logits: row 2, token 0 is nan$"):
        lc.verify(rows, [0, 1, 3], parents=[-1, -1, 1], seed=0, position=0)
    assert lc.Chain().verify(rows, batch, **tree, on_invalid="mark")[0].tolist() == [1, -1]
    assert batch.status == ["token 0 is nan"]


@given(st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=5))
def test_a_tree_has_each_prefix_once(sequences):
    drafts, parents = lc.draft_tree(sequences)
    assert (drafts.dtype, parents.dtype) == (np.int64, np.int64)
    paths = [tuple(path) for path in paths_of(drafts, parents)]
    prefixes = [tuple(one[:n]) for one in sequences for n in range(1, len(one) + 1)]
    assert paths == [(), *dict.fromkeys(prefixes)]
    for sequence in sequences:
        nodes = lc.accepted_drafts([*sequence, 9], drafts, parents)
        assert drafts[nodes].tolist() == sequence


def test_a_long_sequence_takes_no_longer_for_each_token():
    count = 20_000
    rows = np.zeros((count + 1, 1), np.float32)
    assert len(lc.verify(rows, [0] * count, seed=0, position=0)) == count + 1
    drafts, parents = lc.draft_tree([[0] * count] * 3)
    assert_array_equal(lc.accepted_drafts([0] * count, drafts, parents), np.arange(count - 1))


ROWS = np.zeros((4, 5), np.float32)
BAD = [
    ([0, 1], ValueError, "parents must be one per draft (3), not 2"),
    ([-1, 1, 0], ValueError, "parents[1] must be in [-1, 1), not 1"),
    ([-1, 0, -2], ValueError, "parents[2] must be in [-1, 2), not -2"),
    ([0, 0, 1], ValueError, "parents[0] must be in [-1, 0), not 0"),
    ([-1, 0.0, 1], TypeError, "parents must be a sequence of integers, not [-1, 0.0, 1]"),
    (5, TypeError, "parents must be a sequence of integers, not 5"),
]


@pytest.mark.parametrize(("parents", "kind", "text"), BAD)
def test_bad_parents_are_named(parents, kind, text):
    with pytest.raises(kind, match=r"^" + re.escape(text)):
        lc.verify(ROWS, [1, 2, 3], parents=parents, seed=1, position=2)
    with pytest.raises(kind, match=r"^" + re.escape(text)):
        lc.accepted_drafts([1], [1, 2, 3], parents)
    batch = lc.Batch(5)
    batch.add(lc.Params(n=2, seed=1))
    rows, drafts = np.concatenate([ROWS, ROWS]), [[1, 2, 3]] * 2
    with pytest.raises(kind, match=r"^" + re.escape(f"row 1 of the batch: {text}")):
        lc.Chain().verify(rows, batch, drafts, parents=[None, parents])


def test_other_bad_input_is_named():
    batch = lc.Batch(5)
    batch.add(lc.Params(n=2, seed=1))
    with pytest.raises(ValueError, match=r"^parents must be one per row \(2\), not 1$"):
        lc.Chain().verify(ROWS, batch, [[1], [1]], parents=[None])
    with pytest.raises(TypeError, match=r"^parents must be one sequence of indices for each row"):
        lc.Chain().verify(ROWS, batch, [[1], [1]], parents=5)
    with pytest.raises(ValueError, match=r"^tokens\[1\] must be a draft that follows, not 2$"):
        lc.accepted_drafts([1, 2, 4], [1, 3])
    with pytest.raises(TypeError, match=r"^sequences must be sequences of token ids, not 5$"):
        lc.draft_tree(5)
    with pytest.raises(TypeError, match=r"^drafts must be a sequence of integers, not 5$"):
        lc.draft_tree([5])
