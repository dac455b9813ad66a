"""Laws that every control obeys, built in or your own: `check_control(record)`.

Nothing here is imported by the rest of the package.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import make_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch import Batch
from .chain import Chain
from .controls import CONTROLS
from .controls.record import Control
from .inputs.banned_texts import BannedTexts
from .logprobs import logprobs
from .params import FIELDS, Field, Interval, Params, Phrases, TokenIds, field
from .sample import sample
from .speculative import accepted_drafts, draft_tree

Rows = NDArray[np.float32]
Generator = np.random.Generator

#: Short rows, whole blocks of 64 and rows with a rest; the last are long enough for every shortcut.
VOCABS = (1, 2, 63, 64, 65, 700, 3000)

#: How many requests are made up before one must hold no contradiction.
_TRIES = 100


def check_control(
    control: Control,
    values: Mapping[str, Sequence[Any]] | None = None,
    *,
    rounds: int = 4,
    seed: int = 0,
) -> None:
    """Check that a control does what its record says, and does it the same way everywhere.

    control   the record
    values    values to try for its fields, as in {"top_cube": [0.1, 0.5]}; by default some of each
              field's range
    rounds    how often each law is tried, on other rows and requests
    seed      of these rows and requests

    The laws: its off value changes nothing; a removed token stays removed, no logit becomes NaN or
    +inf, and some token stays unless the record allows otherwise; a mask and a cut change no logit
    that stays, a cut keeps a prefix of the order, a scale keeps the order, and an adjustment
    changes named tokens only; a state follows the tokens that are appended, verified or taken back;
    in a chain, alone and next to every built-in control, the fast path
    gives the bits that the kernels give on whole rows one after the other, and lists as kept what
    is left of these; a row's result does not
    depend on the batch or the number of threads; `explain` agrees with `sample`, and so does
    `verify`, over trees of drafts too.

    Raises AssertionError that names the law and the request.

    >>> from logitchain.controls import min_p
    >>> check_control(min_p.CONTROL, rounds=1)
    """
    generator = np.random.default_rng(seed)
    for case in _cases(control, values or {}, (control,), generator, rounds * len(VOCABS)):
        _check_off(control, case)
        _check_kind(control, case)
        _check_independence(control, case)
        _check_drafts(control, case, generator)
        _check_state(control, case)
    neighbours = [other for other in CONTROLS if other.name != control.name]
    for other in neighbours:
        for order in ((control, other), (other, control)):
            for case in _cases(control, values or {}, order, generator, rounds):
                _check_fusion(order, case)


class Case:
    """Rows and a batch of requests, all of one vocabulary."""

    def __init__(self, logits: Rows, batch: Batch, requests: list[dict[str, Any]]) -> None:
        """Rows of logits, the batch and the fields of each request, for messages."""
        self.logits, self.batch, self.requests = logits, batch, requests

    def equal(self, ours: Any, theirs: Any, law: str) -> None:
        """Raise AssertionError with the first row in which two results differ."""
        for r, request in enumerate(self.requests):
            if not np.array_equal(_bits(ours[r]), _bits(theirs[r])):
                raise AssertionError(f"{law}: row {r} of {request}: {ours[r]} is not {theirs[r]}")


def _bits(row: Any) -> Any:
    row = np.asarray(row)
    return row.view(np.int32) if row.dtype == np.float32 else row


def _cases(
    control: Control,
    values: Mapping[str, Sequence[Any]],
    order: tuple[Control, ...],
    generator: Generator,
    count: int,
) -> Iterator[Case]:
    """Random rows, and requests in which the controls of `order` are on."""
    kind = _params_class(order)
    for number in range(count):
        vocab = VOCABS[number % len(VOCABS)] if len(order) == 1 else int(generator.choice(VOCABS))
        batch, requests = Batch(vocab), []
        for _ in range(int(generator.integers(1, 4))):
            fields, params = _request(kind, values, order, generator, vocab)
            prompt, output = (_ids(generator, vocab, 20) for _ in range(2))
            state = {name: float(generator.random()) for one in order for name in one.state}
            if number % 2:
                state = {}
            batch.keep_states(list(state))
            (row,) = batch.add(params, prompt, output, state)
            if any(one.tokens == "token_bitmask" for one in order):
                words = generator.integers(0, 2**32, -(-vocab // 32), np.uint32)
                batch.set_mask(row, words | np.uint32(1))
            requests.append(fields)
        yield Case(np.stack([_row(generator, vocab) for _ in requests]), batch, requests)


def _request(
    kind: type[Params],
    values: Mapping[str, Sequence[Any]],
    order: tuple[Control, ...],
    generator: Generator,
    vocab: int,
) -> tuple[dict[str, Any], Params]:
    """The fields of a request in which the controls are on: as values, and checked."""
    contradiction = None
    for _ in range(_TRIES):
        fields = {
            field.name: _value(field, values.get(field.name), generator, vocab)
            for one in order
            for field in one.fields
            if field.name != "token_bitmask"
        }
        fields["eos_token"] = _ids(generator, vocab)
        fields["seed"] = int(generator.integers(2**63))
        try:
            return fields, kind(**fields)
        except ValueError as error:  # fields may contradict each other
            contradiction = error
    raise AssertionError(f"no {_TRIES} requests go with each other: {contradiction}")


def _params_class(controls: tuple[Control, ...]) -> Any:
    """`Params`, extended by the fields of the given controls that it lacks."""
    own = {
        one.name: field(one.off, one.range, domain=one.domain, integer=one.integer)
        for control in controls
        for one in control.fields
        if one.name not in FIELDS and one.name != "token_bitmask"
    }
    fields = [(name, float, default) for name, default in own.items()]
    return make_dataclass("OwnParams", fields, bases=(Params,), frozen=True, kw_only=True)


def _ids(generator: Generator, vocab: int, most: int = 3) -> list[int]:
    return [int(x) for x in generator.integers(0, vocab, generator.integers(1, most + 1))]


def _value(field: Field, given: Sequence[Any] | None, generator: Generator, vocab: int) -> Any:
    """A value of a field that does not switch it off, if there is one."""
    if given is not None:
        return given[int(generator.integers(len(given)))]
    if isinstance(field.off, bool):
        return not field.off
    if isinstance(field.off, TokenIds):
        return _ids(generator, vocab)
    if isinstance(field.off, Phrases):
        return [_ids(generator, vocab) for _ in range(3)]
    if field.name == "repetition_detection":
        sizes = {"max_pattern_size": int(generator.integers(1, 5)), "min_count": 2}
        return sizes | {"action": ["stop", "end_reasoning"][int(generator.integers(2))]}
    if isinstance(field.off, BannedTexts):
        return BannedTexts(["ab", "ba"], [bytes([97 + i % 26]) for i in range(vocab)])
    if field.name == "watermark":
        return {"scheme": "sbw", "key": int(generator.integers(2**32))}
    if field.name == "logit_bias":
        return {token: float(generator.normal()) for token in _ids(generator, vocab)}
    low, high = Interval(field.range).bounds
    high = min(high, vocab) if "vocab_size" in field.range else high
    if math.isinf(high):
        choices = [low + x for x in ((1, 2, 7) if field.integer else (0.1, 0.8, 1.7, 6.0))]
    elif field.integer:
        choices = [*range(int(low), int(min(high, low + 5)) + 1), int(high)]
    else:
        choices = [low + (high - low) * x for x in (0.02, 0.3, 0.6, 0.95)]
        choices += [end for end in (low, high) if end in Interval(field.range)]
    choices = [choice for choice in choices if choice != field.off] or [field.off]
    return choices[int(generator.integers(len(choices)))]


def _row(generator: Generator, vocab: int) -> Rows:
    """Logits of one of several shapes: spread, peaked, tied, all equal, some of them removed."""
    shapes: list[Callable[[], NDArray[Any]]] = [
        lambda: generator.normal(0, 2, vocab),
        lambda: generator.normal(0, 2, vocab) + 12 * (generator.random(vocab) < 3 / vocab),
        lambda: generator.integers(-3, 4, vocab) * 0.5,
        lambda: np.full(vocab, generator.normal()),
        lambda: generator.normal(0, 40, vocab),
    ]
    row = shapes[int(generator.integers(len(shapes)))]()
    removed = generator.random(vocab) < generator.choice([0.0, 0.0, 0.4])
    removed[generator.integers(vocab)] = False
    row[removed] = -np.inf
    return row.astype(np.float32)


# ---- the laws


def _check_off(control: Control, case: Case) -> None:
    fields = {field.name: field.off for field in control.switched_by}
    every = {field.name: field.off for field in control.fields}
    batch = Batch(case.batch.vocab_size)
    for row in case.batch.rows:
        if "token_bitmask" not in fields:
            try:
                params = replace(case.batch.params(row), **fields)
            except ValueError:  # the others need what is off
                params = replace(case.batch.params(row), **every)
            batch.add(params, case.batch.prompt(row), case.batch.output(row))
        else:
            batch.add(Params(seed=0))
    processed = Chain([control])(case.logits, batch, on_invalid="mark")
    case.equal(processed, case.logits, f"{control.name} changes nothing when it is off")


def _check_kind(control: Control, case: Case) -> None:
    """What the record promises of one row."""
    processed = Chain([_plain(control)])(case.logits, case.batch, on_invalid="mark")
    may_empty = control.kind in ("mask", "adjust", "free") and not control.keeps_one
    for r, (before, after) in enumerate(zip(case.logits, processed, strict=True)):
        where = f"{control.name}, a control of kind {control.kind}: {case.requests[r]}"
        left, was = after > -np.inf, before > -np.inf
        assert not (left & ~was).any(), f"a removed token stays removed; {where}"
        assert (after < np.inf).all(), f"no logit becomes NaN or +inf; {where}"
        assert left.any() or may_empty, f"some token stays; {where}"
        if control.kind in ("mask", "cut"):
            same = _bits(after[left]) == _bits(before[left])
            assert same.all(), f"a logit that stays is not changed; {where}"
        if control.kind == "cut":
            first = np.lexsort((np.arange(before.size), -before))[: left.sum()]
            assert left[first].all(), f"a prefix of the order stays; {where}"
        if control.kind == "scale" and left.sum() > 1:
            order = np.lexsort((np.arange(before.size), -before))
            assert (np.diff(after[order][: left.sum()]) <= 0).all(), f"the order stays; {where}"
        if control.kind == "adjust" and control.tokens != "watermark":  # any token may be green
            handle = case.batch.rows[r]
            named = {*case.batch.prompt(handle), *case.batch.output(handle)}
            if control.tokens != "history" and control.find is None:
                named = set(case.requests[r].get(control.tokens, ()))
            others = [token for token in range(before.size) if token not in named]
            same = _bits(after[others]) == _bits(before[others])
            assert same.all(), f"only named tokens change; {where}"


def _check_independence(control: Control, case: Case) -> None:
    """The fast path, in a batch, alone, on threads, explained and verified, is the plain path."""
    _check_fusion((control,), case)
    batch, logits = case.batch, case.logits
    chain = Chain([control], on_invalid="mark")
    tokens = chain.sample(logits, batch)
    case.equal(
        Chain([control], on_invalid="mark", threads=2).sample(logits, batch), tokens, "threads"
    )
    drafts: list[list[int]] = [[] for _ in tokens]
    case.equal([x[-1] for x in chain.verify(logits, batch, drafts)], tokens, "verify is sample")
    for r, handle in enumerate(batch.rows):
        assert chain.explain(logits, batch, handle).token == tokens[r], "explain is sample"
        if batch.has_mask(handle):
            continue  # the mask of a row cannot be read back
        token = chain.sample(logits[r], _alone(batch, handle))[0]
        assert token == tokens[r], f"a row alone: {case.requests[r]}"


def _check_drafts(control: Control, case: Case, generator: Generator) -> None:
    """Over a tree of drafts, tokens and states are those without drafts."""
    chain, batch = Chain([control], on_invalid="mark"), case.batch
    if batch.vocab_size > 700:  # to draw one by one takes long
        return

    def logits(r: int, path: Sequence[int]) -> NDArray[np.float32]:
        return np.roll(case.logits[r], 7 * sum(path) + len(path))

    rows, trees, paths, futures, states = [], [], [], [], []
    for r, row in enumerate(batch.rows):
        alone, future = copy.copy(batch), list[int]()
        alone.remove([other for other in batch.rows if other != row])
        history = [alone.state(row)]
        while len(future) < 7 and -1 not in future:
            future += chain.sample(logits(r, future), alone).tolist()
            if future[-1] >= 0:
                alone.append(future[-1:])
                history.append(alone.state(row))
        guesses = []
        for _ in range(int(generator.integers(1, 4))):
            right = int(generator.integers(0, min(len(future), 5)))
            wrong = generator.integers(0, batch.vocab_size, generator.integers(0, 3))
            guesses.append([*future[:right], *wrong.tolist()])
        tree = draft_tree(guesses) if generator.random() < 0.5 else _side_by_side(guesses)
        nodes: list[list[int]] = [[]]
        for token, parent in zip(*tree, strict=True):
            nodes.append([*nodes[parent + 1], int(token)])
        rows += [logits(r, path) for path in nodes]
        trees.append(tree)
        paths.append(nodes)
        futures.append(future)
        states.append(history)
    drafts, parents = zip(*trees, strict=True)
    tokens = chain.verify(np.stack(rows), batch, drafts, parents=parents)
    for r, row in enumerate(batch.rows):
        where = f"verify over a tree is sample: {case.requests[r]}"
        count = max(len(path) for path in paths[r] if path == futures[r][: len(path)])
        assert tokens[r].tolist() == futures[r][: count + 1], where
        accepted = drafts[r][accepted_drafts(tokens[r], *trees[r])]
        assert accepted.tolist() == futures[r][:count], where
        kept, again = tokens[r][tokens[r] >= 0], copy.copy(batch)
        again.append(kept, [row] * kept.size)
        assert again.state(row) == states[r][kept.size], where


def _side_by_side(sequences: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Drafts and parents of several sequences, without merging what they begin with."""
    drafts, parents = list[int](), list[int]()
    for sequence in sequences:
        parents += [-1, *range(len(drafts), len(drafts) + len(sequence) - 1)][: len(sequence)]
        drafts += sequence
    return np.array(drafts, np.int64), np.array(parents, np.int64)


def _alone(batch: Batch, handle: int) -> Batch:
    """A batch of one of the rows, added anew."""
    alone, state = Batch(batch.vocab_size), batch.state(handle)
    params = replace(batch.params(handle), seed=batch.seed(handle))
    alone.keep_states(list(state))
    (row,) = alone.add(params, batch.prompt(handle), batch.output(handle), state)
    assert alone.rows == [row]
    return alone


def _check_state(control: Control, case: Case) -> None:
    """A state follows the tokens, whichever way they come, and goes back with them."""
    chain, batch = Chain([control], on_invalid="mark"), case.batch
    if not control.state or not batch.rows:
        return
    (row, *_), position = batch.rows, len(batch.output(batch.rows[0]))
    before, steps, drafts, states = copy.copy(batch), 4, [], []
    for _ in range(steps):
        tokens = chain.sample(case.logits, batch)
        batch.append(tokens)
        drafts.append(tokens)
        states.append(batch.state(row))
    case.equal(batch.positions, before.positions + np.uint64(steps), "a state moves no position")
    again = copy.copy(before)
    rows = np.repeat(case.logits, steps, axis=0)
    proposals = list(np.transpose(drafts[:-1]))
    verified = chain.verify(rows, again, proposals)
    assert [list(x) for x in verified] == np.transpose(drafts).tolist(), "verify carries the state"
    again.append(np.concatenate(verified), np.repeat(again.rows, steps).tolist())
    assert again.state(row) == states[-1], "the tokens that verify gives carry the state"
    batch.rollback(row, steps - 1)
    assert batch.state(row) == states[0], "rollback takes a state back"
    token = chain.sample(case.logits[:1], _alone(batch, row))[0]
    assert token == drafts[1][0], f"a row continues from its state: {case.requests[0]}"
    assert len(batch.output(row)) == position + 1, "rollback keeps the tokens before"


def _check_fusion(order: tuple[Control, ...], case: Case) -> None:
    """A chain is its steps one after the other, each on the whole row."""
    names = ", ".join(control.name for control in order)
    chain = Chain(order, on_invalid="mark")
    expected = case.logits
    replaced = {control.instead_of for control in order}
    for control in order:
        if control.name in replaced:
            continue
        step = Chain([_plain(control)], on_invalid="mark")
        empty = np.asarray(np.isneginf(expected).all(axis=1))
        expected = step(np.where(empty[:, None], np.float32(0), expected), case.batch)
        expected[empty] = -np.inf
    tokens = np.full(len(expected), -1)
    for r in np.flatnonzero(np.isfinite(expected).any(axis=1)):
        keys = int(case.batch.seeds[r]), int(case.batch.positions[r])
        tokens[r] = sample(expected[r], seed=keys[0], position=keys[1])
    case.equal(chain(case.logits, case.batch), expected, f"the chain {names} is its steps")
    case.equal(chain.sample(case.logits, case.batch), tokens, f"the draw after {names}")
    _check_kept(chain, case, expected, names)


def _check_kept(chain: Chain, case: Case, expected: Rows, names: str) -> None:
    """The kept sets are what is left of the rows, and their log-probabilities are of these."""
    drawn = chain.sample_with_logprobs(case.logits, case.batch, of="processed", kept=True)
    left = [np.flatnonzero(np.isfinite(row)) for row in expected]
    of_left = [
        logprobs(row)[ids] if ids.size else row[ids]
        for row, ids in zip(expected, left, strict=True)
    ]
    ours = [drawn.kept_set(r) for r in range(len(expected))]
    case.equal([ids for ids, _ in ours], left, f"the kept set after {names}")
    case.equal([x for _, x in ours], of_left, f"its log-probabilities after {names}")


def _plain(control: Control) -> Control:
    """The control without its shortcut: its kernel gets whole rows."""
    return replace(control, floor=None) if control.kind == "cut" else control
