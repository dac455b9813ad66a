"""A chat-completions server on the loopback address: `make serve`, or see `--help`.

With SERVER_TOKEN in the environment, requests have to bear that token.
"""

import argparse
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from server.app import create
from server.grammar import Grammars
from server.protocol import read
from server.scheduler import Scheduler
from server.schema import MODEL
from smollm2 import Model

HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 24}

TRY = """
listening on http://{address}; try

curl http://{address}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Tell me about whales."}}],
       "min_p": 0.1, "seed": 7, "max_tokens": 60}}'
"""


def main() -> None:
    """Load the model, compile the kernels, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the loopback address by default")
    parser.add_argument("--port", type=int, default=0, help="0, the default, is any free one")
    parser.add_argument("--logprobs", default="raw", choices=["raw", "processed"])
    parser.add_argument("--waiting", type=int, default=64, help="how many requests may wait")
    arguments = parser.parse_args()
    listener = socket.create_server((arguments.host, arguments.port))
    with timed(f"loading {MODEL}"):
        scheduler = Scheduler(
            Model.load(), logprobs=arguments.logprobs, most_waiting=arguments.waiting
        )
        grammars = Grammars(scheduler.model.tokenizer)
    with timed("compiling the kernels; they are kept for the next time"):
        scheduler.chain.warmup()
        scheduler.answer(read(HELLO, scheduler.model, grammars))
    threading.Thread(target=scheduler.run, daemon=True).start()
    app = create(scheduler, grammars, token=os.environ.get("SERVER_TOKEN", ""))
    print(TRY.format(address="{}:{}".format(*listener.getsockname()), model=MODEL), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(what, end=" ... ", flush=True)
    started = time.perf_counter()
    yield
    print(f"{time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
