"""A request in an engine that lets us at its logits and goes on by itself: vLLM and SGLang."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..chain import Chain
from ..dialects import DialectName
from ..inputs.values import show
from ..params import FIELDS, Params

#: Fields that no control acts on: the engine reads its own, which stand beside ours.
NOT_OURS = (
    *("n", "max_tokens", "stop", "logprobs", "top_logprobs"),
    *("logprob_token_ids", "logprobs_of"),
)

#: Fields whose controls read the tokens generated so far, and not only their number.
READS_HISTORY = (
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("dry_multiplier", "mirostat_tau", "adaptive_target", "no_repeat_ngram", "bad_words"),
)


class Request:
    """What a request asks of the chain, and its row.

    body      fields of `Params` on which a control acts, and `draw`, whether the token is ours to
              pick; a mapping, or its JSON text
    dialect   whose spellings they may have
    seed      for a request that names none among ours

    Raises ValueError or TypeError that names the field.

    >>> request = Request('{"min_p": 0.5, "draw": true}', dialect="vllm", seed=7)
    >>> logits = np.array([0, 5, 1], np.float32)
    >>> request.apply(Chain(), logits, prompt=[2], output=[])
    >>> logits
    array([-inf,   0., -inf], dtype=float32)
    """

    def __init__(self, body: Any, *, dialect: DialectName, seed: int) -> None:
        """A request that has not been started."""
        fields = _read(body)
        self.draws: bool = FIELDS["logprobs"].check("draw", fields.pop("draw", False))
        params = Params.from_request(fields, dialect=dialect)
        for name in NOT_OURS:
            if getattr(params, name) != FIELDS[name].off:
                raise ValueError(f"{name} must be given as the engine's own field, not among ours")
        #: Whether its seed is among ours: then all that the engine makes of it draw alike.
        self.has_seed = params.seed is not None
        self.params = params if self.has_seed else replace(params, seed=seed)
        self.reads_history = any(
            getattr(self.params, name) != FIELDS[name].off for name in READS_HISTORY
        )
        #: Whether a warning was logged that a row of the request was left unprocessed.
        self.failed = False
        self._batch: Batch | None = None
        #: The row before, unprocessed. It is kept where the engine draws and a state follows.
        self._last: NDArray[np.float32] | None = None

    @property
    def output(self) -> list[int]:
        """The tokens that the row has generated, as far as known, including our own draws."""
        return [] if self._batch is None else self._batch.output(self._batch.rows[0])

    def apply(
        self,
        chain: Chain,
        logits: NDArray[np.float32],
        prompt: Sequence[int],
        output: Sequence[int],
    ) -> None:
        """Change a row (vocab,) in place: processed, or only our token left in it.

        prompt   token ids; read the first time only
        output   those generated before this row

        Raises ValueError if the row is invalid; its logits are then unchanged.
        """
        if self._batch is None:
            batch = Batch(logits.size)
            batch.add(self.params, prompt)
            self._batch = batch
        (row,) = self._batch.rows
        if self._last is not None and len(output) == len(self.output) + 1:
            chain.carry(self._last, self._batch, output[-1:])
        self._batch.follow(row, output)
        if self._batch.has_states and not self.draws:
            self._last = logits.copy()
        if self.draws:
            (token,) = chain.sample(logits, self._batch, on_invalid="raise")
            logits[:], logits[token] = -np.inf, 0.0
            self._batch.append([token])
        else:
            logits[:] = chain(logits, self._batch, on_invalid="raise")


def seed_of(name: str) -> int:
    """A seed on which all agree who know the name: the processes of an engine must draw alike."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "little")


def _read(body: Any) -> dict[str, Any]:
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError as error:
            raise ValueError(f"not a JSON object: {error}") from None
    if not isinstance(body, Mapping):
        raise TypeError(f"must be a mapping of fields or its JSON text, not {show(body)}")
    return dict(body)
