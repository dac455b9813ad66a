"""Hugging Face transformers: the chain as a logits processor, or as what draws."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..chain import Chain
from ..inputs.values import listed, show
from ..params import Params
from .ends import Answer, check_no_mark, most_tokens

#: What to tell `generate` beside a logits processor: its own controls change nothing. A model's
#: `generation_config.json` may switch them on, and top_k = 50 is on by itself.
NEUTRAL = {
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
}

#: The neutral values of the controls that the engine applies where it draws; elsewhere it warns.
NEUTRAL_DRAW = {
    "temperature": 1.0,
    "top_h": None,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}


class LogitsProcessor:
    """The controls of some requests, for `model.generate(**inputs, **processor.arguments)`.

    model    a model that generates: its vocabulary's size and its end tokens are looked up
    inputs   what `generate` gets: of `input_ids` (prompts, length) what `attention_mask` does not
             mask is history; none of an encoder's input is
    params   for each prompt its request; one alone for a single prompt
    chain    the controls in order; the default order if None

    The engine draws; of a seed only XTC makes use. A row ends where its request says, or at an end
    token of the model; `finish_reasons` says why. With `Chain(on_invalid="mark")` a row that is
    invalid ends there, with its first end token, and `errors` says why; without one it
    raises.

    Raises ValueError or TypeError for a request that does not go with the model.
    """

    supports_continuous_batching = False  # `ContinuousSampler` is for it
    _draws = False

    def __init__(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        params: Params | Sequence[Params],
        chain: Chain | None = None,
    ) -> None:
        """A batch of the requests' rows: n for each, in the order of the prompts."""
        self.chain = chain or Chain()
        self.batch = Batch(_vocab_size(model))
        #: Of a row that was marked, by its handle, why.
        self.errors: dict[int, str] = {}
        self._width: int | None = None  # of the prompts, padding included
        self._last: Any = None  # the scores of the last step, where states follow the tokens
        requests = [params] if isinstance(params, Params) else listed("params", params, "requests")
        prompts = _prompts(model, inputs, len(requests))
        if len(prompts) != len(requests):
            raise ValueError(f"params must be one per prompt ({len(prompts)}), not {len(requests)}")
        for request, prompt in zip(requests, prompts, strict=True):
            if not self._draws:
                check_no_mark(request, "`Sampler`")
            self.batch.add(_with_ends(request, model, self.batch.vocab_size), prompt)
        self._answers = [
            Answer(self.batch.params(row), self.batch.prompt(row)) for row in self.batch.rows
        ]
        self._ended = [False] * len(self.batch)

    @property
    def finish_reasons(self) -> list[str | None]:
        """Of each row why its request ended it: "stop", "length" or "repetition"; None if not."""
        return [answer.reason for answer in self._answers]

    @property
    def arguments(self) -> dict[str, Any]:
        """What to call `generate` with, beside its inputs.

        To add a processor or a criterion of your own, put it into the list, before this one or
        after. There is no `max_new_tokens` if a request has no `max_tokens` and no
        `max_total_tokens`. Raises ValueError if
        requests differ in n, as `generate` has one `num_return_sequences`.
        """
        requests = [self.batch.params(row) for row in self.batch.rows]
        counts = {request.n for request in requests}
        if len(counts) != 1:
            raise ValueError(f"n must be one for all prompts, not {sorted(counts)}")
        sizes = (len(self.batch.prompt(row)) for row in self.batch.rows)
        lengths = [most_tokens(*one) for one in zip(requests, sizes, strict=True)]
        several = max(counts) > 1
        sampled = several or not self._draws  # without do_sample it refuses several
        return {
            "logits_processor": [self],
            "stopping_criteria": [self.ended],
            "num_return_sequences": max(counts),
            "do_sample": sampled,
            **NEUTRAL,
            **(NEUTRAL_DRAW if sampled else {}),
            **({"max_new_tokens": max(filter(None, lengths))} if all(lengths) else {}),
        }

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores (rows, vocab) of the next tokens, in a new tensor.

        Read where they are if they are on the CPU; from another device they are copied, and back.
        """
        self._follow(input_ids)
        there = scores.cpu()
        if self.batch.has_states and not self._draws:
            self._last = there.clone()
        out = scores.new_empty(scores.shape, device="cpu").float()
        self._process(there, out)
        for r, status in enumerate(self.batch.status):
            if status != "ok":
                self._give_up(r, status, out.numpy())
        return out.to(scores)

    def ended(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """As a stopping criterion: (rows,) which rows have ended."""
        self._follow(input_ids)
        return input_ids.new_tensor(self._ended).bool()

    def _process(self, scores: Any, out: Any) -> None:
        self.chain(scores, self.batch, on_invalid="mark", out=out)

    def _follow(self, input_ids: Any) -> None:
        """Keep the histories in step with the engine's; see which rows have ended."""
        ids = input_ids.cpu().numpy()
        if len(ids) != len(self.batch):
            raise ValueError(f"input_ids must have {len(self.batch)} rows, not {len(ids)}")
        if self._width in (None, ids.shape[1]):  # the first step of a call of generate
            self._width, self.errors = ids.shape[1], {}
        elif self._last is not None:  # the engine has drawn, and the states follow its tokens
            self.chain.carry(self._last, self.batch, ids[:, -1])
        self._last = None
        for r, row in enumerate(self.batch.rows):
            if row not in self.errors:
                generated = ids[r, self._width :]
                self._answers[r].follow(generated.tolist())
                self._ended[r] = self._answers[r].reason is not None
                self.batch.follow(row, self._answers[r].tokens)

    def _give_up(self, r: int, status: str, rows: NDArray[np.float32]) -> None:
        """A row without a token: if it goes on, an error, or its end token alone."""
        row = self.batch.rows[r]
        ends = self.batch.params(row).eos_token
        if not self._ended[r]:
            if self.chain.on_invalid == "raise" or not ends:
                raise ValueError(f"logits: row {r}, {status}")
            self.errors[row], self._ended[r] = status, True
        _only(rows[r], ends)


class Sampler(LogitsProcessor):
    """A logits processor that also draws: in each row only the token drawn is left.

    Its score is its log-probability of the processed logits. Whether `generate` draws or takes the
    best, it is this token; so all that goes with `generate` goes with it. `batch.seed(row)` gives
    the row's tokens again, and `batch.output(row)` has its generated tokens, without padding.
    """

    _draws = True

    def _process(self, scores: Any, out: Any) -> None:
        _draw(self.chain, scores, self.batch, out.numpy())


class ContinuousSampler:
    """The chain as what draws for a manager of continuous batching.

    manager   what `model.init_continuous_batching` gives, not started; without asynchronous batches
              (the chain needs a token before the next is drawn), CUDA graphs and compiled steps
    chain     the controls in order; the default order if None

    What the generation config says of sampling is not looked at. A request ends where it says:
    after a sequence of `stop_tokens` and after a loop an end token comes. An invalid row ends
    there, with its first end token, and its result's `error` says why; the other rows go on.
    """

    def __init__(self, manager: Any, chain: Chain | None = None) -> None:
        """Put the chain in the place of the manager's logits processors."""
        config = manager.continuous_batching_config
        compiled = config.varlen_compile_config, config.decode_compile_config
        if manager.batch_processor is not None or manager.num_return_sequences != 1:
            raise ValueError("manager must not have started, and have num_return_sequences = 1")
        if config.use_async_batching or any(config.cuda_graph_booleans) or any(compiled):
            raise ValueError("manager must be without async batching, CUDA graphs and compiling")
        if config.return_logprobs:  # of the one token that is left
            raise ValueError("return_logprobs must be False: each would be 0")
        self.chain = chain or Chain()
        self.manager, self.batch = manager, Batch(_vocab_size(manager.model))
        self.supported_kwargs, self.ignored_kwargs = {"params": Params}, ()
        self._states: list[Any] = []
        self._rows: dict[int, int] = {}  # by the id of a state: a request's id may come again
        self._answers: dict[int, Answer] = {}  # by row
        processors = type(manager.logit_processor)
        engine: Any = sys.modules[processors.__module__]
        engine.ContinuousBatchingLogitsProcessor.register(ContinuousSampler)
        manager.logit_processor = processors(type(manager.logit_processor.logits_processor)([self]))
        manager.logit_processor.tensors_required = 1  # or it passes no arguments

    def add(self, prompt_tokens: Sequence[int], params: Params, **options: Any) -> dict[str, int]:
        """Add the n rows of a request; for each the manager's request id, and its seed.

        options   further arguments of the manager's `add_request`, such as `streaming`, or for one
                  sample `request_id`

        Raises ValueError or TypeError for a request that does not go with the model, or that has no
        end token or no prompt.
        """
        params = _with_ends(params, self.manager, self.batch.vocab_size)
        if not params.eos_token:
            raise ValueError("eos_token must have a token: an invalid row ends with it")
        if not len(prompt_tokens):  # either would take all the manager's requests down
            raise ValueError("prompt_tokens must have a token")
        if params.n > 1 and options.get("request_id") is not None:
            raise ValueError(f"n must be 1 for a request_id, not {params.n}")
        trial = Batch(self.batch.vocab_size)
        Answer(params, prompt_tokens)  # which may have no room for one
        alone = [end[0] for end in params.stop_tokens if len(end) == 1]
        return {
            self.manager.add_request(
                trial.prompt(row),
                params=replace(params, n=1, seed=trial.seed(row)),
                max_new_tokens=most_tokens(params, len(prompt_tokens)),
                eos_token_id=[*params.eos_token, *alone],
                **options,
            ): trial.seed(row)
            for row in trial.add(params, prompt_tokens)
        }

    def fill_defaults(self, int32_tensor: Any) -> None:
        """The engine's call for default arguments: there are none."""

    def prepare_tensor_args(self, requests_with_new_token: Sequence[Any]) -> Any:
        """The engine's call before a step, with its requests in the order of their logits."""
        states = [request.state for request in requests_with_new_token]
        rows = {id(state): self._row(state) for state in states}
        gone = [row for key, row in self._rows.items() if key not in rows]
        self.batch.remove(gone)
        for row in gone:
            del self._answers[row]
        self.batch.reorder(list(rows.values()))
        self._states, self._rows = states, rows
        return sys.modules["torch"].empty(0)  # of arguments: `__call__` needs none

    def __call__(self, scores: Any, tensor_arg: Any) -> Any:
        """The scores (rows, vocab) with the drawn tokens alone; of further rows nothing counts."""
        count = len(self.batch)
        out = scores.new_zeros(scores.shape, device="cpu")
        rows = out.numpy()[:count]
        _draw(self.chain, scores[:count].cpu(), self.batch, rows)
        for r, (row, status) in enumerate(zip(self.batch.rows, self.batch.status, strict=True)):
            if self._answers[row].reason is not None:
                _only(rows[r], self.batch.params(row).eos_token)
            elif status != "ok":
                self._states[r].error = status
                _only(rows[r], self.batch.params(row).eos_token)
        return out.to(scores)

    def _row(self, state: Any) -> int:
        """The row of a request: a new one, or brought up to date with its generated tokens."""
        output = state.to_generation_output()
        row = self._rows.get(id(state))
        if row is None:
            params = state.logit_processor_kwargs.get("params", Params())
            (row,) = self.batch.add(params, output.prompt_ids, output.generated_tokens)
            self._answers[row] = Answer(params, output.prompt_ids)
        else:
            self.batch.follow(row, output.generated_tokens)
        self._answers[row].follow(output.generated_tokens)
        return row


def _vocab_size(model: Any) -> int:
    return int(model.config.get_text_config(decoder=True).vocab_size)


def _prompts(model: Any, inputs: Mapping[str, Any], count: int) -> list[Any]:
    """Each prompt's tokens, without its padding; none where the decoder gets no tokens."""
    if not isinstance(inputs, Mapping) or "inputs" in inputs:  # the same under another name
        raise TypeError(f"inputs must be a mapping with input_ids, not {show(inputs)}")
    prefix = "decoder_" if model.config.is_encoder_decoder else ""
    ids = inputs.get(f"{prefix}input_ids")
    if ids is None:
        return [()] * count
    ids, mask = ids.cpu().numpy(), inputs.get(f"{prefix}attention_mask")
    if mask is None:
        return list(ids)
    own = mask.cpu().numpy()[:, mask.shape[1] - ids.shape[1] :] != 0  # a cache may come before
    return [row[mine] for row, mine in zip(ids, own, strict=True)]


def _with_ends(params: Params, owner: Any, vocab: int) -> Params:
    """The request with the end tokens of the engine as well: these end a row in any case.

    A config's default may lie outside a small vocabulary; the engine warns of it and goes on.
    """
    if not isinstance(params, Params):
        raise TypeError(f"params must be Params, not {show(params)}")
    given = owner.generation_config.eos_token_id
    ends = [int(token) for token in np.ravel([] if given is None else given) if 0 <= token < vocab]
    return replace(params, eos_token=tuple(dict.fromkeys((*params.eos_token, *ends))))


def _draw(chain: Chain, scores: Any, batch: Batch, out: NDArray[np.float32]) -> None:
    """Each row with the drawn token's log-probability, all else -inf; an invalid row all -inf."""
    drawn = chain.sample_with_logprobs(scores, batch, of="processed", on_invalid="mark")
    out[...] = -np.inf
    out[np.arange(len(batch)), drawn.tokens] = drawn.logprobs


def _only(row: NDArray[np.float32], ends: Sequence[int]) -> None:
    """Leave only the row's first end token, or if it has none a token that is ignored."""
    row[...] = -np.inf
    row[ends[0] if ends else 0] = 0.0
