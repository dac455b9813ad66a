"""The description of the API, as OpenAPI has it."""

from .schema import BODY, STRING, Schema, also, fields

ERROR = fields(
    "error",
    error=fields(
        "message type param code",
        message=STRING,
        type=STRING,
        param=also(STRING, "null"),
        code=STRING,
    ),
)
JSON, EVENTS = "application/json", "text/event-stream"


def _path(summary: str, **more: object) -> Schema:
    content: Schema = {JSON: {"schema": {"type": "object"}}}
    if "requestBody" in more:
        content[EVENTS] = {"schema": {}}
    good = {"description": "the answer", "content": content}
    bad = {"description": "an error", "content": {JSON: {"schema": ERROR}}}
    return {"summary": summary, "responses": {"200": good, "default": bad}, **more}


DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "A chat-completions server over logitchain", "version": "1"},
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "paths": {
        "/v1/chat/completions": {
            "post": _path(
                "Answer a chat",
                security=[{"token": []}, {}],
                parameters=[{"name": "X-Friendli-Team", "in": "header", "schema": STRING}],
                requestBody={"required": True, "content": {JSON: {"schema": BODY}}},
            )
        },
        "/v1/models": {"get": _path("The models")},
        "/health": {"get": _path("How many rows run and how many requests wait")},
    },
}
