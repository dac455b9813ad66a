"""The model's logits after each text, kept, so that moving a control costs no pass of the model."""

from collections import OrderedDict
from collections.abc import Sequence

from smollm2 import Cache, Floats, Model

#: How many rows of logits are kept, 200 kB each: more than the page's two texts have positions.
MOST_KEPT = 640

Key = tuple[tuple[int, ...], tuple[int, ...]]  # prompt, output


class Logits:
    """Logits after a prompt and the tokens that were generated.

    The prompt is read in one go and each generated token in a step of its own, so that equal texts
    have equal logits, to the last bit, however one came there.
    """

    def __init__(self, model: Model) -> None:
        """With nothing read."""
        self.model = model
        self._kept: OrderedDict[Key, Floats] = OrderedDict()
        self._prompt: tuple[int, ...] = ()
        self._output: list[int] = []  # the generated tokens that the cache has read
        self._cache: Cache = model.new_cache()

    def after(self, prompt: Sequence[int], output: Sequence[int]) -> Floats:
        """Logits (vocab,) for the token that follows; not to be written to."""
        key = tuple(prompt), tuple(output)
        if key not in self._kept:
            self._read(*key)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _read(self, prompt: tuple[int, ...], output: tuple[int, ...]) -> None:
        """Go back to what the cache and this text have in common, and read on from there."""
        common = 0
        while common < min(len(output), len(self._output)) and (
            output[common] == self._output[common]
        ):
            common += 1
        common = min(common, max(len(output) - 1, 0))  # the last token gives the logits
        if prompt != self._prompt or not output:
            logits, self._cache = self.model.prefill(prompt)
            self._prompt, common = prompt, 0
            self._keep((prompt, ()), logits)
        self._cache.length = len(prompt) + common
        self._output = list(output[:common])
        for token in output[common:]:
            logits = self.model.step([self._cache], [token])[0]
            self._output.append(token)
            self._keep((prompt, tuple(self._output)), logits)

    def _keep(self, key: Key, logits: Floats) -> None:
        self._kept[key] = logits
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
