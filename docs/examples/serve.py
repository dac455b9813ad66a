"""A chat-completions server on the loopback address: `make serve`, or see `--help`.

With SERVER_TOKEN in the environment, requests have to bear that token.
"""

import argparse
import asyncio
import gc
import os
import socket
import sys
import threading
from types import FrameType

import uvicorn
from server.app import UPLOAD_SECONDS, create
from server.grammar import Grammars
from server.protocol import read_chat
from server.scheduler import Scheduler
from server.schema import MODEL
from smollm2 import Model
from uvicorn.protocols.http.h11_impl import H11Protocol

LAST_SECONDS = 5  # for the errors of requests that the end of grace finds under way
HELLO = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 24}

TRY = """
listening on http://{address}; try

curl http://{address}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Tell me about whales."}}],
       "min_p": 0.1, "seed": 7, "max_tokens": 60}}'
"""


class Server(uvicorn.Server):
    """On a signal to stop, gives requests some time to finish, and then ends them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and wait for those there are."""
        grace = (self.config.timeout_graceful_shutdown or 0) - LAST_SECONDS
        asyncio.get_running_loop().call_later(grace, self.config.app.state.stop)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The second time, end the requests at once."""
        self.config.app.state.stop() if self.should_exit else super().handle_exit(sig, frame)


class Protocol(H11Protocol):
    """Closes a connection on which no request begins in time, however slowly its bytes come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(UPLOAD_SECONDS, lambda: self.cycle or self.transport.close())


def main() -> None:
    """Load the model, compile the kernels, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the loopback address by default")
    parser.add_argument("--port", type=int, default=0, help="0, the default, is any free one")
    parser.add_argument("--logprobs", default="raw", choices=["raw", "processed"])
    parser.add_argument("--waiting", type=int, default=64, help="how many requests may wait")
    parser.add_argument("--grace", type=int, default=10, help="seconds for requests to finish in")
    parser.add_argument("--allow-origin", action="append", default=[], help="of pages that may ask")
    arguments = parser.parse_args()
    listener = socket.create_server((arguments.host, arguments.port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a token waits for 40 ms
    print(f"loading {MODEL} ...", flush=True)
    scheduler = Scheduler(Model.load(), logprobs=arguments.logprobs, most_waiting=arguments.waiting)
    grammars = Grammars(scheduler.model.tokenizer)
    print("compiling the kernels, which are kept for the next time ...", flush=True)
    scheduler.chain.warmup()
    scheduler.answer(read_chat(HELLO, scheduler.model.tokenizer, grammars))
    gc.freeze()  # what is there for good need not be searched while a large body is read
    threading.Thread(target=scheduler.run, daemon=True).start()
    token = os.environ.get("SERVER_TOKEN", "")
    app = create(scheduler, grammars, token=token, origins=arguments.allow_origin)
    print(TRY.format(address="{}:{}".format(*listener.getsockname()), model=MODEL), flush=True)
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_level="warning",
        limit_concurrency=1000,
        timeout_graceful_shutdown=arguments.grace + LAST_SECONDS,
    )
    Server(config).run([listener])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
