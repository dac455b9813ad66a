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
from ..controls import CONTROLS
from ..controls.record import WORDS, Control
from ..dialects import DialectName
from ..inputs.banned_texts import BannedTexts
from ..inputs.values import of_field, show
from ..params import FIELDS, Params
from .ends import check_no_ends, check_no_mark

#: The fields that are ours: those of controls, of the draw, and the end tokens that `min_tokens`
#: removes. Sequences that end an answer, which it removes too, are the engine's, as it ends it.
OURS = {"seed", "eos_token"}.union(
    *({*(field.name for field in x.fields), x.tokens, x.exempt} for x in CONTROLS)
) - {"stop_tokens"}

#: Fields that no control acts on: the engine reads its own, which stand beside ours.
NOT_OURS = tuple(name for name in FIELDS if name not in OURS)

#: What a mask or an adjustment names its tokens by without a look at those so far.
_BY_THEMSELVES = (*WORDS, "logit_bias", "banned_tokens", "forced_output_tokens")


def reads_history(control: Control, params: Params) -> bool:
    """Whether a control of a request reads the tokens so far, and not only their number."""
    if control.tokens == "stop_tokens":  # an end of one token needs none before it
        return any(len(end) > 1 for end in params.stop_tokens)
    if control.kind in ("mask", "adjust"):
        return control.tokens not in _BY_THEMSELVES
    return bool(control.state)


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
        texts = fields.get("banned_texts")
        if texts and not isinstance(texts, BannedTexts):
            text = "banned_texts must be given as bad_words: the vocabulary is not known here"
            raise of_field("banned_texts", ValueError(text))
        params = Params.from_request(fields, dialect=dialect)
        if "stop_after_min_tokens" not in fields:  # it may be a dialect's way; no phrase is ours
            params = replace(params, stop_after_min_tokens=False)
        for name in NOT_OURS:
            if getattr(params, name) != FIELDS[name].off:
                text = f"{name} must be given as the engine's own field, not among ours"
                raise of_field(name, ValueError(text))
        check_no_ends(params, 'the engine\'s own field, or the action "end_reasoning"')
        if not self.draws:
            check_no_mark(params, '"draw": true')
        #: Whether its seed is among ours: then all that the engine makes of it draw alike.
        self.has_seed = params.seed is not None
        self.params = params if self.has_seed else replace(params, seed=seed)
        self.reads_history = any(
            control.is_on(params) and reads_history(control, params) for control in CONTROLS
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
