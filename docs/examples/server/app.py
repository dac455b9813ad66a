"""The HTTP side: routes, and one coroutine for each request."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import protocol
from .errors import ApiError, invalid
from .grammar import Grammars
from .openapi import DESCRIPTION
from .scheduler import Job, Scheduler
from .schema import MODEL

MOST_BYTES = 1 << 20  # in a body


def create(scheduler: Scheduler, grammars: Grammars, *, token: str = "") -> Starlette:
    """The app; with a `token`, an answer is for requests that bear it."""

    async def complete(request: Request) -> Response:
        _check_token(request, token)
        body = _parsed(await _body(request))
        asked = await run_in_threadpool(protocol.read, body, scheduler.model, grammars)
        entries: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        job = scheduler.submit(
            asked, lambda entry: loop.call_soon_threadsafe(entries.put_nowait, entry)
        )
        if asked.stream:
            return Stream(scheduler, job, entries)
        try:
            said = await _while_connected(request, _all(entries))
        finally:
            scheduler.cancel(job)
        return JSONResponse(protocol.completion(asked, said, job.usage))

    async def models(request: Request) -> Response:
        _check_token(request, token)
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "HuggingFaceTB"}
        return JSONResponse({"object": "list", "data": [model]})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **scheduler.status()})

    async def description(request: Request) -> Response:
        return JSONResponse(DESCRIPTION)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/openapi.json", description),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _not_there, Exception: _failed},
    )


class Stream(StreamingResponse):
    """An answer as server-sent events; a client that goes away frees its rows."""

    def __init__(self, scheduler: Scheduler, job: Job, entries: asyncio.Queue[Any]) -> None:
        """The answer to `job`, whose entries come through the queue."""
        super().__init__(self._events(job, entries), media_type="text/event-stream")
        self._cancel = lambda: scheduler.cancel(job)

    async def __call__(self, *connection: Any) -> None:
        """Send it."""
        try:
            await super().__call__(*connection)
        finally:
            self._cancel()

    async def _events(self, job: Job, entries: asyncio.Queue[Any]) -> AsyncIterator[str]:
        try:
            async for entry in _told(entries):
                yield _event(protocol.chunk(job.request, [entry]))
            if job.request.include_usage:
                yield _event(protocol.chunk(job.request, [], job.usage))
            yield "data: [DONE]\n\n"
        except ApiError as error:
            yield _event(error.body())


async def _told(entries: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """What a job emits, up to its end."""
    while (entry := await entries.get()) is not None:
        if isinstance(entry, ApiError):
            raise entry
        yield entry


async def _all(entries: asyncio.Queue[Any]) -> list[Any]:
    return [entry async for entry in _told(entries)]


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


async def _while_connected(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`; an error as soon as the client has gone away."""
    tasks = [asyncio.ensure_future(task) for task in (work, _gone(request))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise _left()
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _left() -> ApiError:
    return ApiError(499, "the client went away", code="client_gone")


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                message = f"the body must have at most {MOST_BYTES} bytes"
                raise ApiError(413, message, code="body_too_large")
    except ClientDisconnect:
        raise _left() from None
    return bytes(body)


def _parsed(body: bytes) -> Any:
    """The body as JSON: UTF-8, without NaN, infinities and half of a surrogate pair."""
    try:
        parsed = json.loads(body.decode(), parse_constant=_no_number)
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body must be JSON: {error}") from None
    return parsed


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _check_token(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").encode()
    if token and not secrets.compare_digest(given, f"Bearer {token}".encode()):
        raise ApiError(401, "the bearer token is missing or wrong", code="invalid_api_key")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.status)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = ApiError(error.status_code, f"{request.url.path}: {error.detail}", code="no_route")
    return JSONResponse(refused.body(), status_code=error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return await _refused(request, ApiError(500, "the server failed", code="failed"))
