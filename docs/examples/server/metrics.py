"""What the server counts, for Prometheus."""

import time
from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters of one app."""

    def __init__(self, status: Callable[[], Mapping[str, int]]) -> None:
        """`status` says how many rows run and how many requests wait."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "requests", "Answered requests", ["path", "status"], registry=self._registry
        )
        self._tokens = Counter(
            "tokens", "Tokens read and generated", ["kind"], registry=self._registry
        )
        self._first = Histogram(
            "time_to_first_token_seconds",
            "From a request's body to its answer's beginning",
            buckets=SECONDS,
            registry=self._registry,
        )
        for name, about in {"running": "Rows that run", "waiting": "Requests that wait"}.items():
            gauge = Gauge(name, about, registry=self._registry)
            gauge.set_function(lambda name=name: status()[name])

    def counting(self, app: ASGIApp) -> ASGIApp:
        """The app, with its answers counted by path and status."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    is_known = "endpoint" in scope and not scope["path_params"]
                    path = scope["path"] if is_known else "other"
                    self._requests.labels(path, message["status"]).inc()
                await send(message)

            await app(scope, receive, noting)

        return counted

    async def show(self, request: Request) -> Response:
        """All of them as text."""
        return Response(latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def count(self, usage: Mapping[str, int]) -> None:
        """Count the tokens of an answer."""
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind).inc(usage[f"{kind}_tokens"])

    def first_token(self, since: float) -> None:
        """An answer has begun to a request that came at a time of `time.perf_counter`."""
        self._first.observe(time.perf_counter() - since)
