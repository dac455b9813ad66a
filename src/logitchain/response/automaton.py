"""Finding many phrases in a text at once, or many sequences of tokens."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class Automaton(Generic[C]):
    """Many phrases read at once, after Aho and Corasick (CACM 18, 1975).

    A phrase is a sequence of characters, or of token ids. A state is the longest end of the text
    that some phrase starts with; state 0 is the empty one.
    """

    def __init__(self, phrases: Iterable[Sequence[C]]) -> None:
        """The states of all phrases; in time linear in them."""
        self.after: list[dict[C, int]] = [{}]  # the state after one more character of a phrase
        self.shorter = [0]  # the state of the next shorter such end
        self.phrase: list[Any] = [""]  # a phrase that starts so
        self.depth = [0]  # how many of its characters that is
        self.found: list[Any] = [None]  # the longest phrase that ends here, or None
        for phrase in phrases:
            self._add(phrase)
        states = list(self.after[0].values())
        for state in states:  # it grows meanwhile, shorter states first
            for character, longer in self.after[state].items():
                self.shorter[longer], _ = self.read(self.shorter[state], (character,))
                self.found[longer] = self.found[longer] or self.found[self.shorter[longer]]
                states.append(longer)

    def _add(self, phrase: Sequence[C]) -> None:
        state = 0
        for depth, character in enumerate(phrase, 1):
            if character not in self.after[state]:
                self.after[state][character] = len(self.after)
                self.after.append({})
                self.shorter.append(0)
                self.phrase.append(phrase)
                self.depth.append(depth)
                self.found.append(None)
            state = self.after[state][character]
        self.found[state] = phrase

    def __deepcopy__(self, memo: Any) -> "Automaton[C]":
        """The automaton itself, which does not change."""
        return self

    def read(self, state: int, text: Sequence[C], *, stops: bool = True) -> tuple[int, int]:
        """(the state after text up to the end of a phrase, how many characters that is).

        stops   whether the end of a phrase is the end; else all of the text is read
        """
        for count, character in enumerate(text, 1):
            while state and character not in self.after[state]:
                state = self.shorter[state]
            state = self.after[state].get(character, 0)
            if self.found[state]:
                if stops:
                    return state, count
                state = self.past(state)
        return state, len(text)

    def past(self, state: int) -> int:
        """The state with the same continuations that holds the least, once a phrase is ignored."""
        while state and not self.after[state]:
            state = self.shorter[state]
        return state
