"""vLLM: a logits processor for its V1 and V2 model runners, found by an entry point.

vLLM loads `LogitsProcessor` from here in every engine that it starts, so loading never fails: it is
made of the interfaces that vLLM has imported, or where they are unknown does nothing and says so.
"""

import logging
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

from .. import rng
from ..chain import Chain
from ..inputs.values import show
from .request import Request, seed_of

log = logging.getLogger(__name__)

#: Where vLLM keeps the class that a processor of its V1 runner, and of its V2 runner, derives from.
INTERFACES = (
    "vllm.v1.sample.logits_processor.interface",
    "vllm.v1.worker.gpu.sample.logits_processor.interface",
)


class Row(NamedTuple):
    """A row of vLLM's logits that is ours."""

    place: int
    request: Request
    prompt: Sequence[int]
    output: Sequence[int]


class Processor:
    """What a request asks for in `extra_args["logitchain"]`, done to its rows of the logits.

    field   the key of `extra_args` that is ours
    chain   the controls in order

    For another chain derive from `LogitsProcessor`, with a field of its own.
    """

    field: ClassVar[str] = "logitchain"
    chain: ClassVar[Chain] = Chain()

    def __init__(self, vllm_config: Any, *given: Any) -> None:
        """As either runner makes it: the V2 runner gives its requests' tokens."""
        replica = getattr(vllm_config, "parallel_config", None)
        number = getattr(replica, "data_parallel_index", 0)  # all have one id
        name = f"{getattr(vllm_config, 'instance_id', '')} {number}"
        self._seed, self._count = seed_of(name), 0
        self._states: Any = given[0] if len(given) == 1 else None
        self._slots: dict[int, tuple[Request, Sequence[int], Sequence[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError for a request whose fields are no good; vLLM answers with it."""
        try:
            request = cls._request(sampling_params, 0)
            _check_plain((sampling_params.extra_args or {}).get(cls.field))
            if request is not None and request.has_seed and sampling_params.n > 1:
                raise ValueError("seed must be vLLM's own field if n is more than 1")
        except Exception as error:  # of JSON nested too deep it is a RecursionError
            raise ValueError(f"{cls.field}: {error}") from None

    @classmethod
    def _request(cls, sampling_params: Any, seed: int) -> Request | None:
        """What the request asks of us, if anything; `seed` is for one that names none at all."""
        extra = (sampling_params.extra_args or {}).get(cls.field)
        if extra is None:
            return None
        given = sampling_params.seed
        return Request(extra, dialect="vllm", seed=seed if given in (None, -1) else given)

    def _add(
        self, slot: int, params: Any, prompt: Sequence[int] | None, output: Sequence[int]
    ) -> bool:
        """A request has come to a slot; whether it is ours."""
        self._slots.pop(slot, None)
        self._count += 1
        try:
            request = self._request(params, rng.child_seed(self._seed, self._count))
        except Exception as error:  # vLLM has let it in without asking us
            log.warning("a request is left to vLLM: %s: %s", self.field, error)
            return False
        if request is not None:
            self._slots[slot] = request, prompt or (), output
        return request is not None

    def apply(self, logits: Any, ctx: Any = None) -> Any:
        """Change our rows of the logits (rows, vocab), a float32 tensor, in place."""
        rows = self._rows() if ctx is None else self._rows_of(ctx)
        if logits.device.type == "cpu":
            self._change(rows, [logits[row.place] for row in rows])
        elif rows:
            places = [row.place for row in rows]
            host = logits[places].cpu()
            self._change(rows, host)
            logits[places] = host.to(logits.device)
        return logits

    def _change(self, rows: list[Row], logits: Any) -> None:
        """Change rows on the CPU. An error is logged: raised, it would end all requests."""
        for (_, request, prompt, output), row in zip(rows, logits, strict=True):
            try:
                request.apply(self.chain, row.numpy(), prompt, _known(request, output))
            except Exception as error:
                if not request.failed:
                    log.warning("a row of the logits is left to vLLM as it came: %s", error)
                request.failed = True

    # ---- V1: row r of the logits is the request in slot r

    def is_argmax_invariant(self) -> bool:
        """No: what we do can move the best token."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Requests have left, come, and changed their slots, in this order."""
        if batch_update is None:
            return
        for slot in batch_update.removed:
            self._slots.pop(slot, None)
        for slot, params, prompt, output in batch_update.added:
            self._add(slot, params, prompt, output)
        for source, target, direction in batch_update.moved:
            moved, displaced = self._slots.pop(source, None), self._slots.pop(target, None)
            if moved is not None:
                self._slots[target] = moved
            if displaced is not None and direction.name == "SWAP":
                self._slots[source] = displaced

    def _rows(self) -> list[Row]:
        return [Row(slot, *self._slots[slot]) for slot in sorted(self._slots)]

    # ---- V2: a request may have several rows, the others after draft tokens

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """A request has come to a slot; whether it is ours."""
        return self._add(req_idx, sampling_params, (), ())

    def apply_staged_writes(self) -> None:
        """Nothing: we keep nothing on the device."""

    def _rows_of(self, ctx: Any) -> list[Row]:
        if self._slots.keys().isdisjoint(ctx.idx_mapping_np.tolist()):  # known without the device
            return []
        slots = ctx.expanded_idx_mapping.tolist()
        locals_, fed = ctx.expanded_local_pos.tolist(), ctx.input_ids.tolist()
        histories = {slot: self._history_of(slot) for slot in set(slots) if slot in self._slots}
        rows = []
        for place, (slot, local) in enumerate(zip(slots, locals_, strict=True)):
            if slot in histories:  # its first row was fed the last token, the others a draft each
                prompt, output = histories[slot]
                drafts = fed[place - local + 1 : place + 1]
                rows.append(Row(place, self._slots[slot][0], prompt, output + drafts))
        return rows

    def _history_of(self, slot: int) -> tuple[list[int], list[int]]:
        """A request's prompt and what it has generated."""
        prompt_size = int(self._states.prompt_len.np[slot])
        size = int(self._states.total_len.gpu[slot])
        tokens = self._states.all_token_ids.gpu[slot, :size].tolist()
        return tokens[:prompt_size], tokens[prompt_size:]


def _known(request: Request, output: Sequence[int]) -> Sequence[int]:
    """The output, in which -1 is a token that vLLM has sampled and not read back.

    If we drew it we know it. Else it counts, and what looks at it cannot be done.
    """
    if not output or output[-1] != -1:
        return output
    ours = request.output
    known = [
        ours[i] if token < 0 and i < len(ours) and request.draws else token
        for i, token in enumerate(output)
    ]
    if -1 in known and request.reads_history:
        raise ValueError(
            "vLLM has not read back what was sampled, which a field looks at: "
            "it must run with --no-async-scheduling, or the draw be ours"
        )
    return known


def _check_plain(value: Any) -> None:
    """Raise TypeError for what does not reach vLLM's engine, another process, as it was given."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if type(value) in (list, tuple, set):
        for item in value:
            _check_plain(item)
    elif type(value) not in (str, int, float, bool, type(None)):
        raise TypeError(f"must hold plain Python values only, not {show(value)}")


class Idle:
    """Does nothing, and says so: this vLLM has an interface that we do not know."""

    field: ClassVar[str] = Processor.field

    def __init__(self, *given: Any, **named: Any) -> None:
        """Whatever it is made with."""
        log.warning("logitchain does not know this vLLM's logits processors, and does nothing")

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request that asks for us."""
        if cls.field in (getattr(sampling_params, "extra_args", None) or {}):
            raise ValueError(f"{cls.field}: this vLLM's logits processors are not known to it")

    def apply(self, logits: Any, *given: Any, **named: Any) -> Any:
        """The logits as they came."""
        return logits

    def __getattr__(self, name: str) -> Any:
        """Any other method: it takes everything, does nothing and says no."""
        return _no


def _no(*given: Any, **named: Any) -> bool:
    return False


@cache
def _made(interfaces: tuple[type, ...]) -> type:
    """The class that vLLM asks for, derived from what it checks for."""
    kind = type("LogitsProcessor", (Processor, *interfaces), {"__module__": __name__})
    if interfaces and not getattr(kind, "__abstractmethods__", ()):
        return kind
    wanted = {name for base in interfaces for name in getattr(base, "__abstractmethods__", ())}
    names = {"__module__": __name__, **dict.fromkeys(wanted - set(vars(Idle)), _no)}
    return type("LogitsProcessor", (Idle, *interfaces), names)


def __getattr__(name: str) -> Any:
    if name != "LogitsProcessor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = [sys.modules[path] for path in INTERFACES if path in sys.modules]
    found = [getattr(module, "LogitsProcessor", None) for module in modules]
    kinds = dict.fromkeys(kind for kind in found if isinstance(kind, type))
    # One may derive from the other, and then must come before it.
    return _made(tuple(sorted(kinds, key=lambda kind: -len(kind.__mro__))))
