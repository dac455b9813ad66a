"""Where an answer ends, in an engine that knows fewer ends than a request can have."""

from collections.abc import Sequence
from dataclasses import replace

from ..inputs.values import of_field
from ..params import Params
from ..response.choice import Choice

#: The ends that engines do not have, or not all: where one is asked for, we look for it.
ENDS = ("stop_tokens", "max_total_tokens", "repetition_detection")


class Answer:
    """The tokens of one row, which end where its request says.

    params   the request; its stop phrases are not looked for, since there is no text
    prompt   token ids

    Raises ValueError if `max_total_tokens` leaves no room after the prompt.

    >>> answer = Answer(Params(stop_tokens=[[5, 6]]), prompt=[1])
    >>> answer.follow([4, 5])
    >>> answer.certain, answer.reason
    (1, None)
    >>> answer.follow([4, 5, 6, 7])
    >>> answer.length, answer.certain, answer.reason
    (3, 1, 'stop')
    """

    def __init__(self, params: Params, prompt: Sequence[int]) -> None:
        """An answer without a token."""
        self._params = replace(
            params, stop=(), logprobs=False, top_logprobs=0, logprob_token_ids=()
        )
        self._prompt = prompt
        self._choice = self._begun()

    def _begun(self) -> Choice:
        """A choice in whose text each token is one character."""
        return Choice(self._params, lambda token: b".", seed=0, prompt_tokens=self._prompt)

    def follow(self, output: Sequence[int]) -> None:
        """Take note of the generated tokens, up to the end; those that were taken back are gone."""
        known = len(self._choice.tokens)
        if list(output[:known]) != self._choice.tokens:
            self._choice, known = self._begun(), 0
        for token in output[known:]:
            if self.reason is not None:
                break
            self._choice.append(token)

    @property
    def tokens(self) -> list[int]:
        """The tokens up to the end, those that ended the answer too."""
        return self._choice.tokens

    @property
    def certain(self) -> int:
        """How many of the tokens are text for certain, and no part of a sequence that ends it."""
        return len(self._choice.text)

    @property
    def length(self) -> int | None:
        """How many tokens the answer has; None as long as it goes on."""
        return None if self.reason is None else len(self._choice.tokens)

    @property
    def reason(self) -> str | None:
        """Why the answer ended: "stop", "length" or "repetition"; None as long as it goes on."""
        return self._choice.finish_reason


def most_tokens(params: Params, prompt_size: int) -> int | None:
    """How many tokens an answer has at most."""
    total = params.max_total_tokens
    ends = params.max_tokens, None if total is None else total - prompt_size
    return min((end for end in ends if end is not None), default=None)


def answer_beside(params: Params, prompt: Sequence[int]) -> Answer | None:
    """The answer to a request that has one of `ENDS`, and ends at these alone.

    `max_tokens` and `eos_token` are left to the engine.
    """
    if not any(getattr(params, name) for name in ENDS):
        return None
    return Answer(replace(params, max_tokens=None, eos_token=()), prompt)


def check_end_token(params: Params) -> None:
    """Check that an answer can be ended in an engine which ends it at a token alone."""
    for name in ENDS:
        if getattr(params, name) and not params.eos_token:
            text = f"{name} needs eos_token: a token with which the engine ends the answer"
            raise of_field(name, ValueError(text))


def check_no_ends(params: Params, instead: str) -> None:
    """Refuse the ends that nobody looks for; a loop that ends the reasoning is a control's.

    >>> check_no_ends(Params(max_total_tokens=9), "the engine's own max_tokens")
    Traceback (most recent call last):
    ...
    ValueError: max_total_tokens must not be given, as the engine ends answers: use the engine's ...
    """
    loop = params.repetition_detection
    asked = [name for name in ENDS[:-1] if getattr(params, name)]
    if loop is not None and loop.action == "stop":
        asked.append("repetition_detection")
    for name in asked:
        text = f"{name} must not be given, as the engine ends answers: use {instead}"
        raise of_field(name, ValueError(text))


def check_no_mark(params: Params, instead: str) -> None:
    """Refuse a watermark of the draw where the engine draws.

    >>> from logitchain import Watermark
    >>> check_no_mark(Params(watermark=Watermark("gumbel", key=42)), '"draw": true')
    Traceback (most recent call last):
    ...
    ValueError: watermark must have the scheme 'sbw' where the engine draws, not 'gumbel', ...
    """
    mark = params.watermark
    if mark is not None and mark.keys_draw:
        text = (
            "watermark must have the scheme 'sbw' where the engine draws, "
            f"not '{mark.scheme}', which is one of our draw: use {instead}"
        )
        raise of_field("watermark", ValueError(text))
