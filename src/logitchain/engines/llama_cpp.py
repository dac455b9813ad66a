"""llama-cpp-python: the chain as a logits processor, or in the place of the engine's samplers."""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..chain import Chain
from ..params import Params
from .ends import Answer, answer_beside, check_no_ends, check_no_mark

#: What to tell `create_completion` beside a logits processor: its own samplers then drop the tokens
#: that the chain removed, and of the others none that is ever drawn.
NEUTRAL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 1e-37}

Ids = NDArray[np.int32]  # (tokens,), the whole sequence as the engine has it
Logits = NDArray[np.float32]  # (vocab,)
Rows = NDArray[np.float32]  # (1, vocab)

#: llama_token_data
_RECORD = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LogitsProcessor:
    """The controls of one request, for `logits_processor=[...]`: the engine draws.

    llm      a `llama_cpp.Llama` without a draft model: it would show its drafts as generated
    params   the request, of its n samples the first; its seed is for XTC alone
    chain    the controls in order; the default order if None

    One for each request: the prompt is what is there at the first call. The engine prints what a
    logits processor raises and goes on with the logits as they came; told `stopping_criteria=`
    the method `check`, it stops with that error.
    """

    def __init__(self, llm: Any, params: Params, chain: Chain | None = None) -> None:
        """Raises ValueError or TypeError for a request that does not go with the model."""
        if llm.draft_model is not None:
            raise ValueError("llm must have no draft model; `sampling` takes one that has")
        check_no_ends(params, "`sampling`")
        check_no_mark(params, "`sampling`")
        self.chain = chain or Chain()
        self._history = _History(llm.n_vocab(), params)
        self.batch = self._history.batch
        self._error: Exception | None = None
        self._last: Logits | None = None  # the last scores, where a state follows the token

    def __call__(self, ids: Ids, scores: Logits) -> Logits:
        """The processed logits (vocab,), in a new array."""
        try:
            if self._last is not None:
                self.chain.carry(self._last, self.batch, ids[-1:])
            self._history.follow(ids)
            self._last = np.array(scores) if self.batch.has_states else None
            return self.chain(scores, self.batch, on_invalid="raise")
        except Exception as error:
            self._error = error
            raise

    def check(self, ids: Ids, scores: Logits) -> bool:
        """A stopping criterion: False, or the error of the last call."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return False


@contextmanager
def sampling(llm: Any, params: Params, chain: Chain | None = None) -> Iterator[Batch]:
    """While it lasts, the chain picks the tokens that a `llama_cpp.Llama` generates.

    llm      its `generate`, its completions and its chat draw from the chain; what they are told of
             temperature, top_k and the like is not looked at. Logits processors and a grammar
             come before the chain
    params   the request of each generation that begins; with n > 1 the next of its n samples. A
             generation ends where its `stop_tokens`, `max_total_tokens` or `repetition_detection`
             say so: it leaves out the sequence, and yields the model's end token
    chain    the controls in order; the default order if None

    Yields the batch, whose only row is the sequence that is generated: `batch.seed(batch.rows[0])`
    gives its tokens again. The logits are read where llama.cpp has them. Errors are raised where
    the tokens are asked for. Raises ValueError if another request has `llm` already.
    """
    if "sample" in vars(llm):
        raise ValueError("llm must be free, not sampling for another request")
    if answer_beside(params, ()) is not None and llm.token_eos() < 0:
        raise ValueError("llm must have an end token, with which an answer ends")
    sampler = _Sampler(llm, params, chain or Chain())
    llm.generate, llm.sample = sampler.generate, sampler.sample
    try:
        yield sampler.history.batch
    finally:
        del llm.generate, llm.sample


class _History:
    """The sequence that the engine generates, as the only row of a batch."""

    def __init__(self, vocab_size: int, params: Params) -> None:
        self.batch = Batch(vocab_size)
        self.prompt: Ids | None = None
        self.params, self._begun = params, 0
        self.batch.add(params)  # an invalid request is refused before it starts

    def end(self) -> None:
        """The next call begins another sequence."""
        self.prompt = None

    def follow(self, ids: Any) -> None:
        """Take note of the whole sequence."""
        prompt = self._begin(ids) if self.prompt is None else self.prompt
        if not np.array_equal(ids[: prompt.size], prompt):
            raise ValueError("ids must begin with the prompt, not be those of another request")
        self.batch.follow(self.batch.rows[0], ids[prompt.size :])

    def _begin(self, prompt: Any) -> Ids:
        self.batch.remove(self.batch.rows)
        rows = self.batch.add(self.params, prompt)
        mine = rows[self._begun % len(rows)]
        self.batch.remove([row for row in rows if row != mine])
        self._begun += 1
        self.prompt = np.array(prompt)
        return self.prompt


class _Sampler:
    """The replacements of `Llama.generate` and `Llama.sample`."""

    def __init__(self, llm: Any, params: Params, chain: Chain) -> None:
        self.llm, self.chain = llm, chain
        self.history = _History(llm.n_vocab(), params)
        self._engine: Any = sys.modules["llama_cpp"]
        self._address, self._logits = 0, np.empty((1, 0), np.float32)

    def generate(self, tokens: Sequence[int], *arguments: Any, **named: Any) -> Any:
        """Begin a request at the first token; the engine's own loop calls `sample` for each."""
        self.history.end()
        answer = answer_beside(self.history.params, tokens)
        drawn = type(self.llm).generate(self.llm, tokens, *arguments, **named)
        yield from drawn if answer is None else self._to_the_end(drawn, answer)

    def _to_the_end(self, drawn: Iterator[int], answer: Answer) -> Iterator[int]:
        """The tokens of the answer, and once it has ended the model's end token."""
        output: list[int] = []
        given = 0
        for token in drawn:
            output.append(token)
            answer.follow(output)
            yield from output[given : answer.certain]
            given = answer.certain
            if answer.reason is not None:  # the engine asks for the text at an end token alone
                yield self.llm.token_eos()
                return
        yield from output[given:]

    def sample(
        self,
        *_: Any,
        logits_processor: Any = None,
        grammar: Any = None,
        idx: int | None = None,
        **__: Any,
    ) -> int:
        """The token after the first idx + 1; after all if None."""
        size = self.llm.n_tokens if idx is None else idx + 1
        if not size:
            raise ValueError("the prompt must have a token: there are no logits without one")
        ids = self.llm.input_ids[:size]
        self.history.follow(ids)
        rows = self._rows(size - 1 - self.llm.n_tokens)
        if logits_processor:
            logits = rows[0].copy()  # it may write
            for process in logits_processor:
                logits[:] = process(ids, logits)
            rows = logits[None]
        if grammar is None:
            return self._draw(rows)
        mask = _Grammar(self._engine, self.llm._sampler)
        rows = mask(rows)
        token = self._draw(rows)
        if rows[0, token] == -np.inf:  # by a control that lifts it; llama.cpp would end the process
            raise ValueError(f"the chain's token must be one that the grammar allows, not {token}")
        mask.accept(token)
        return token

    def _rows(self, index: int) -> Rows:
        """The logits of a position, counted from the end, where llama.cpp has them."""
        pointer = self._engine.llama_get_logits_ith(self.llm.ctx, index)
        address = ctypes.addressof(pointer.contents)
        if address != self._address:  # mostly they are where they were: 40 us less a token
            shape = 1, self.history.batch.vocab_size
            self._logits = np.ctypeslib.as_array(pointer, shape).view(np.float32)
            self._address = address
        return self._logits

    def _draw(self, rows: Rows) -> int:
        return int(self.chain.sample(rows, self.history.batch, on_invalid="raise")[0])


class _Grammar:
    """The grammar of a generation: one of the engine's own samplers, which removes tokens."""

    def __init__(self, engine: Any, samplers: Any) -> None:
        self._engine = engine
        chain, nameless = samplers.sampler, [i for i, _ in samplers.custom_samplers]
        named = [i for i in range(engine.llama_sampler_chain_n(chain)) if i not in nameless]
        parts = [engine.llama_sampler_chain_get(chain, i) for i in named]
        found = [part for part in parts if part and engine.llama_sampler_name(part) == b"grammar"]
        if not found:  # where one cannot be parsed the engine has a null pointer
            raise ValueError("grammar must be a generation's, and one that llama.cpp can parse")
        self._sampler = found[0]

    def __call__(self, rows: Rows) -> Rows:
        """The rows, one, with the tokens at -inf that it does not allow next."""
        vocab = rows.shape[1]
        records = np.zeros(vocab, _RECORD)
        records["id"], records["logit"] = np.arange(vocab), rows[0]
        data = records.ctypes.data_as(self._engine.llama_token_data_p)
        array = self._engine.llama_token_data_array(data, vocab, -1, False)
        self._engine.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return records["logit"][None]

    def accept(self, token: int) -> None:
        """Go on after a token."""
        self._engine.llama_sampler_accept(self._sampler, token)
