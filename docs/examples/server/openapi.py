"""The description of the API, as OpenAPI has it."""

from .schema import CHAT, COMPLETION, OBJECT, STRING, TEXT, Schema, fields

ERROR = fields(
    "error",
    error=fields("message type param code", message=STRING, type=STRING, param=TEXT, code=STRING),
)
NAME = {"name": "name", "in": "path", "required": True, "schema": {**STRING, "minLength": 1}}
TEAM = {"name": "X-Friendli-Team", "in": "header", "schema": STRING}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _path(summary: str, content: Schema | None = None, **more: object) -> Schema:
    good = {"description": "the answer", "content": content or _json(OBJECT)}
    bad = {"description": "an error", "content": _json(ERROR)}
    return {"summary": summary, "responses": {"200": good, "default": bad}, **more}


def _answer(summary: str, body: Schema) -> Schema:
    content = _json(OBJECT) | {"text/event-stream": {"schema": {}}}
    accepted = {"required": True, "content": _json(body)}
    security = [{"token": []}, {}]
    return {
        "post": _path(summary, content, security=security, parameters=[TEAM], requestBody=accepted)
    }


DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "A chat-completions server over logitchain", "version": "1"},
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "paths": {
        "/v1/chat/completions": _answer("Answer a chat", CHAT),
        "/v1/completions": _answer("Go on with a text", COMPLETION),
        "/v1/models": {"get": _path("The models")},
        "/v1/models/{name}": {"get": _path("A model", parameters=[NAME])},
        "/health": {"get": _path("How many rows run and how many requests wait")},
        "/metrics": {"get": _path("Counters for Prometheus", {"text/plain": {"schema": {}}})},
    },
}
