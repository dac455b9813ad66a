"""The HTTP side: the page, the catalogue it is built from, and explanations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smollm2 import Model
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import logitchain as lc

from .catalogue import catalogue, section
from .explainer import MOST_OUTPUT, Explainer

MOST_BYTES = 1 << 20  # in a body
STATIC = Path(__file__).parent / "static"

#: Nothing comes from elsewhere, and nothing but this page may embed or read it.
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def create(
    model: Model,
    chain: lc.Chain | None = None,
    params: type[lc.Params] = lc.Params,
    name: str = "SmolLM2-135M-Instruct",
) -> Starlette:
    """The app. It starts with the order of `chain`, whose own controls it offers like the others.

    params   the class of the requests: `Params`, or a subclass with the fields of own controls
    """
    chain = chain or lc.Chain()
    explainer = Explainer(model, chain, params)
    about = {
        "model": name,
        "version": lc.__version__,
        "vocab_size": model.tokenizer.vocab_size,
        "most_output": MOST_OUTPUT,
        **catalogue(chain.steps, params, model.tokenizer.vocab_size),
    }

    async def describe(request: Request) -> Response:
        return JSONResponse(about, headers=HEADERS)

    async def documentation(request: Request) -> Response:
        text = section(request.path_params["name"])
        if not text:
            raise HTTPException(404, "docs/controls.md has no such control")
        return PlainTextResponse(text, headers=HEADERS)

    def answering(work: Callable[[Any], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            asked = await _json(request)
            try:
                return JSONResponse(await run_in_threadpool(work, asked), headers=HEADERS)
            except (TypeError, ValueError) as error:
                raise HTTPException(400, str(error)) from None

        return answer

    app = Starlette(
        routes=[
            Route("/catalogue", describe),
            Route("/docs/{name}", documentation),
            Route("/explain", answering(explainer.explain), methods=["POST"]),
            Route("/tokens", answering(explainer.tokens), methods=["POST"]),
            Mount("/", Page(directory=STATIC, html=True)),
        ],
        # Names that a web page elsewhere could give this address are refused.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={HTTPException: _refused},
    )
    app.state.explainer = explainer
    return app


class Page(StaticFiles):
    """The page's files, with the headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


async def _json(request: Request) -> dict[str, Any]:
    """The body. Only a page from here can send this type: others would have to ask first."""
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "the body must be application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"the body must have at most {MOST_BYTES} bytes")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body must be JSON") from None
    if not isinstance(asked, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return asked


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=HEADERS)
