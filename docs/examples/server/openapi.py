"""The description of the API, as OpenAPI has it."""

from .schema import CHAT, COMPLETION, STRING, TEXT, Schema, fields

ERROR = fields(
    "error",
    error=fields("message type param code", message=STRING, type=STRING, param=TEXT, code=STRING),
)
JSON, EVENTS = "application/json", "text/event-stream"


def _path(summary: str, *, kind: str = JSON, **more: object) -> Schema:
    content: Schema = {kind: {"schema": {"type": "object"} if kind == JSON else {}}}
    if "requestBody" in more:
        content[EVENTS] = {"schema": {}}
    good = {"description": "the answer", "content": content}
    bad = {"description": "an error", "content": {JSON: {"schema": ERROR}}}
    return {"summary": summary, "responses": {"200": good, "default": bad}, **more}


def _answer(summary: str, body: Schema) -> Schema:
    return {
        "post": _path(
            summary,
            security=[{"token": []}, {}],
            parameters=[{"name": "X-Friendli-Team", "in": "header", "schema": STRING}],
            requestBody={"required": True, "content": {JSON: {"schema": body}}},
        )
    }


NAME = {"name": "name", "in": "path", "required": True, "schema": {**STRING, "minLength": 1}}

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
        "/metrics": {"get": _path("Counters for Prometheus", kind="text/plain")},
    },
}
