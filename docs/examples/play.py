"""A page on which every control can be moved and its effect be seen: `make playground`.

With `--own FILE`, a Python file that defines controls of your own (and a subclass of Params with
their fields, as docs/examples/own_control.py does), they are on the page too, in front of top_k.
"""

import argparse
import contextlib
import importlib
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playground.app import create
from smollm2 import Model

import logitchain as lc


def main() -> None:
    """Load the model, compile the kernels, serve the page on the loopback address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, is any free one")
    parser.add_argument("--own", default="", help="a file with controls of your own")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    arguments = parser.parse_args()
    chain, params = own_controls(arguments.own) if arguments.own else (lc.Chain(), lc.Params)
    listener = socket.create_server(("127.0.0.1", arguments.port))
    # Connections inherit it. Otherwise an answer waits 40 ms for the receipt of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    url = "http://{}:{}/".format(*listener.getsockname())
    with timed("loading SmolLM2-135M-Instruct"):
        app = create(Model.load(), chain, params)
    with timed("compiling the kernels; they are kept for the next time"):
        app.state.explainer.warmup()
    print(f"listening on {url}", flush=True)
    has_display = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if has_display and not arguments.no_browser:
        threading.Timer(0.5, webbrowser.open, [url]).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


def own_controls(path: str) -> tuple[lc.Chain, type[lc.Params]]:
    """The default order with the controls that a file defines, and its subclass of Params."""
    sys.path.insert(0, str(Path(path).resolve().parent))  # numba's cache wants a module
    found = list(vars(importlib.import_module(Path(path).stem)).values())
    controls = [x for x in found if isinstance(x, lc.Control)]
    kinds = [x for x in found if isinstance(x, type) and issubclass(x, lc.Params)]
    if not controls:
        raise SystemExit(f"{path} defines no logitchain.Control")
    place = lc.DEFAULT_ORDER.index("top_k")
    order = [*lc.DEFAULT_ORDER[:place], *controls, *lc.DEFAULT_ORDER[place:]]
    return lc.Chain(order), max(kinds, key=lambda kind: len(kind.mro()), default=lc.Params)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(what, end=" ... ", flush=True)
    started = time.perf_counter()
    yield
    print(f"{time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
