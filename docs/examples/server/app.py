"""The HTTP side: routes, and one coroutine for each request."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
from prometheus_client import Counter, Gauge, Histogram
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from starlette_exporter import PrometheusMiddleware, handle_metrics

from . import protocol
from .errors import ApiError, invalid
from .grammar import Grammars
from .openapi import DESCRIPTION
from .scheduler import Job, Scheduler
from .schema import MODEL

MOST_BYTES = 1 << 20  # in a body
UPLOAD_SECONDS = 30  # for a body to arrive, and for a client to take a part of the answer

CORS = {"allow_methods": ["*"], "allow_headers": ["*"], "expose_headers": ["Retry-After"]}
_left = partial(ApiError, 499, "the client went away", code="client_gone")
LOAD = Gauge("logitchain_load", "Rows that run and requests that wait", ["kind"])
TOKENS = Counter("logitchain_tokens", "Tokens read and generated", ["kind"])
FIRST_TOKEN = Histogram(
    "logitchain_first_token_seconds", "From a request to its answer's beginning"
)

ABOUT_MODEL = {"id": MODEL, "object": "model", "created": 0, "owned_by": "HuggingFaceTB"}


def create(
    scheduler: Scheduler, grammars: Grammars, *, token: str = "", origins: Sequence[str] = ()
) -> Starlette:
    """The app; with a `token`, an answer is for requests that bear it.

    origins   the origins of web pages that may read its answers, "*" for all
    """
    for kind in ("running", "waiting"):
        LOAD.labels(kind).set_function(lambda kind=kind: scheduler.status()[kind])
    # Few threads, so that whatever they read they leave the event loop its share of the time.
    readers = ThreadPoolExecutor(2, "reader")

    async def answer(read: Callable[..., protocol.Request], request: Request) -> Response:
        _check_token(request, token)
        data, came = await _body(request), time.perf_counter()
        entries: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        emit = partial(loop.call_soon_threadsafe, entries.put_nowait)

        def begin() -> Job:
            parsed = read(_parsed(data), scheduler.model.tokenizer, grammars)
            return scheduler.submit(parsed, emit)

        job = await loop.run_in_executor(readers, begin)
        if job.request.stream:
            return Stream(scheduler, job, _emitted(entries, came))
        try:
            async for _ in _emitted(entries, came, request.is_disconnected):
                pass
        finally:
            _done(scheduler, job)
        text = await loop.run_in_executor(readers, lambda: orjson.dumps(job.response()))
        return Response(text, media_type="application/json")

    async def models(request: Request) -> Response:
        _check_token(request, token)
        if (name := request.path_params.get("name", MODEL)) != MODEL:
            message = f"the model must be {MODEL}, not {name[:100]!r}"
            raise ApiError(404, message, code="model_not_found", param="model")
        listed = {"object": "list", "data": [ABOUT_MODEL]}
        return JSONResponse(ABOUT_MODEL if "name" in request.path_params else listed)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **scheduler.status()})

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", partial(answer, protocol.read_chat), methods=["POST"]),
            Route("/v1/completions", partial(answer, protocol.read_completion), methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", models),
            Route("/health", health),
            Route("/metrics", handle_metrics),
            Route("/openapi.json", lambda request: JSONResponse(DESCRIPTION)),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _not_there, Exception: _failed},
        middleware=[
            Middleware(PrometheusMiddleware, app_name="logitchain", prefix="logitchain"),
            Middleware(CORSMiddleware, allow_origins=origins, **CORS),
        ],
    )
    app.state.stop = scheduler.stop
    return app


class Stream(StreamingResponse):
    """An answer as server-sent events; a client that goes away or reads nothing frees its rows."""

    def __init__(self, scheduler: Scheduler, job: Job, emitted: AsyncIterator[Any]) -> None:
        """The answer to `job`, whose entries come in `emitted`."""
        super().__init__(self._events(job, emitted), media_type="text/event-stream")
        self._scheduler, self._job = scheduler, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), UPLOAD_SECONDS)

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            _done(self._scheduler, self._job)

    async def _events(self, job: Job, emitted: AsyncIterator[Any]) -> AsyncIterator[str]:
        try:
            async for entry in emitted:
                yield _event(protocol.chunk(job.request, [entry]))
            if job.request.stream_options.get("include_usage"):
                yield _event(protocol.chunk(job.request, [], job.usage))
            yield "data: [DONE]\n\n"
        except ApiError as error:
            yield _event(error.body())


async def _emitted(
    entries: asyncio.Queue[Any], came: float, is_gone: Callable[[], Awaitable[bool]] | None = None
) -> AsyncIterator[Any]:
    """What a job emits, up to its end; or until the client `is_gone`, checked every second."""
    while True:
        try:
            entry = await asyncio.wait_for(entries.get(), 1)
        except asyncio.TimeoutError:
            entry = {}
        if is_gone and await is_gone():
            raise _left()
        if entry is None:
            return
        if isinstance(entry, ApiError):
            raise entry
        if entry and came:
            FIRST_TOKEN.observe(time.perf_counter() - came)
            came = 0
        if entry:
            yield entry


def _done(scheduler: Scheduler, job: Job) -> None:
    """Whatever has become of it, count its tokens and free its rows."""
    scheduler.cancel(job)
    for kind in ("prompt", "completion"):
        TOKENS.labels(kind).inc(job.usage[f"{kind}_tokens"])


def _event(body: dict[str, Any]) -> str:
    """In ASCII: some clients take U+2028 for the end of a line."""
    return f"data: {json.dumps(body)}\n\n"


async def _body(request: Request) -> bytes:
    try:
        return await asyncio.wait_for(_upload(request), UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        message = f"the body must arrive within {UPLOAD_SECONDS} seconds"
        raise ApiError(408, message, code="upload_timeout") from None
    except ClientDisconnect:
        raise _left() from None


async def _upload(request: Request) -> bytes:
    """All of the body; of one that is too large the end is read too, so that its client listens."""
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= MOST_BYTES:
            body += part
    if size > MOST_BYTES:
        message = f"the body must have at most {MOST_BYTES} bytes"
        raise ApiError(413, message, code="body_too_large")
    return bytes(body)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise invalid(f"the body must be JSON: {error}") from None


def _check_token(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_right = secrets.compare_digest(given.strip().encode(), token.encode())
    if token and not (scheme.lower() == "bearer" and is_right):
        raise ApiError(401, "the bearer token is missing or wrong", code="invalid_api_key")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    refused = ApiError(error.status_code, f"{path}: {error.detail}", code="no_route")
    return JSONResponse(refused.body(), status_code=error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return await _refused(request, ApiError(500, "the server failed", code="failed"))
