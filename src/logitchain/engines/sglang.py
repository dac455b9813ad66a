"""SGLang: a custom logit processor, which a request carries to the server by name.

SGLang unpickles the class in its scheduler, so logitchain must be installed there, and the server
be started with `--enable-custom-logit-processor --disable-overlap-schedule`.
"""

import json
import logging
import pickle
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from ..chain import Chain
from .request import Request, seed_of

log = logging.getLogger(__name__)

#: Where we keep a request's state: among its own parameters, so that it goes when they go.
STATE = "__logitchain__"


class LogitProcessor:
    """What a request asks for in `custom_params["logitchain"]`, done to its rows of the logits.

    field   the key of `custom_params` that is ours
    chain   the controls in order

    A class of your own with another chain is derived from this one, in a module that the server can
    import.

    >>> sorted(json.loads(LogitProcessor.to_str()))
    ['callable']
    """

    field: ClassVar[str] = "logitchain"
    chain: ClassVar[Chain] = Chain()

    @classmethod
    def to_str(cls) -> str:
        """The class by its name, as a request carries it; SGLang need not be installed."""
        return json.dumps({"callable": pickle.dumps(cls).hex()})

    def __call__(self, logits: Any, custom_param_list: Sequence[Any] | None = None) -> Any:
        """Change the rows (rows, vocab), of which each has its parameters; in place on a CPU."""
        host = logits.float().cpu()
        for row, params in zip(host, custom_param_list or (), strict=False):
            if isinstance(params, Mapping) and self.field in params:
                self._change(row.numpy(), params)
        return host.to(logits.device)

    def _change(self, row: Any, params: Any) -> None:
        """Change one row. An error would end the server: it ends its request."""
        engine = params["__req__"]
        try:
            if STATE not in params:
                _check_server()
                params[STATE] = Request(params[self.field], dialect="sglang", seed=_seed(engine))
            prompt, output = engine.origin_input_ids, engine.output_ids
            params[STATE].apply(self.chain, row, prompt, output)
        except Exception as error:
            _end(engine, f"{self.field}: {error}")


def _seed(engine: Any) -> int:
    """Of a request that names none, its id's: each process of the engine must draw alike."""
    seed = engine.sampling_params.sampling_seed
    return seed_of(engine.rid) if seed is None else int(seed)


def _check_server() -> None:
    """Raise ValueError if SGLang runs in a mode in which an output may lack its latest tokens."""
    context = sys.modules["sglang.srt.runtime_context"]
    if not context.get_schedule().disable_overlap_schedule:
        raise ValueError("SGLang must run with --disable-overlap-schedule")
    if context.get_spec().speculative_algorithm:
        raise ValueError("SGLang must run without speculative decoding")


def _end(engine: Any, message: str) -> None:
    """End a request with an error, which SGLang answers with after this step."""
    log.warning("a request ends: %s", message)
    module = sys.modules["sglang.srt.managers.schedule_batch"]
    engine.to_finish = module.FINISH_ABORT(message, HTTPStatus.BAD_REQUEST, "BadRequestError")
