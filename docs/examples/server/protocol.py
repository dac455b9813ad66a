"""Bodies: from a request's to what it asks for, from an answer's deltas to the response's."""

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from smollm2 import Model

import logitchain as lc

from .errors import ApiError, invalid
from .openapi import CONTEXT, MODEL, check
from .prompt import render
from .tools import Grammars, Tools


@dataclass(frozen=True)
class Request:
    """What a request asks for."""

    id: str
    created: int
    prompt: list[int]
    params: lc.Params  # with the model's own eos_token, and max_tokens within the context
    tools: Tools
    resume_generation: bool
    stream: bool
    include_usage: bool


def new_id(kind: str) -> str:
    """A name that no other answer has."""
    return f"{kind}-{secrets.token_hex(12)}"


def read(body: Any, model: Model, grammars: Grammars) -> Request:
    """A request from its body as parsed; ApiError names the field that is at fault."""
    try:
        params = lc.Params.from_request(body)
        check(body)
        lc.Batch(model.tokenizer.vocab_size).add(params)  # no id is outside the vocabulary
    except (TypeError, ValueError) as error:
        raise invalid(str(error)) from None
    if body["model"] != MODEL:
        message = f"model must be {MODEL}, not {body['model']}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if params.top_logprobs and not params.logprobs:
        raise invalid(f"top_logprobs must be 0 without logprobs, not {params.top_logprobs}")
    if body.get("stream_options") and not body.get("stream"):
        raise invalid("stream_options must be null without stream", "stream_options")
    tools = grammars.tools(body)
    if params.min_tokens and tools.functions:
        raise invalid(f"min_tokens must be 0 with tools, not {params.min_tokens}")
    prompt = model.tokenizer.encode(_prompt(body, tools))
    left = CONTEXT - len(prompt)
    if left < 1:
        raise invalid(
            f"messages must have less than {CONTEXT} tokens, not {len(prompt)}", "messages"
        )
    return Request(
        id=new_id("chatcmpl"),
        created=int(time.time()),
        prompt=prompt,
        params=replace(
            params,
            eos_token=(*model.tokenizer.eos, *params.eos_token),
            max_tokens=min(params.max_tokens or left, left),
        ),
        tools=tools,
        resume_generation=bool(body.get("resume_generation")),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def _prompt(body: Mapping[str, Any], tools: Tools) -> str:
    options = body.get("chat_template_kwargs") or {}
    last = body["messages"][-1]["role"]
    if options.get("continue_final_message") and last != "assistant":
        where = "chat_template_kwargs.continue_final_message"
        raise invalid(f"{where} must be false where the last role is {last}", where)
    return render(body["messages"], tools.functions, **options)


def chunk(request: Request, choices: list[Any], usage: Any = None) -> dict[str, Any]:
    """A chunk of a stream."""
    body = _envelope(request, "chat.completion.chunk", choices)
    return body | ({"usage": usage} if request.include_usage else {})


def completion(request: Request, entries: Iterable[Any], usage: Any) -> dict[str, Any]:
    """The whole answer: all that the chunks of a stream would have said, put together."""
    choices: dict[int, dict[str, Any]] = {}
    for entry in entries:
        _add(choices.setdefault(entry["index"], _silent(request, entry)), entry)
    listed = [choices[index] for index in sorted(choices)]
    return _envelope(request, "chat.completion", listed) | {"usage": usage}


def _envelope(request: Request, kind: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": request.id,
        "object": kind,
        "created": request.created,
        "model": MODEL,
        "choices": choices,
    }


def _silent(request: Request, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A choice before its first delta."""
    return {
        "index": entry["index"],
        "message": {"role": "assistant", "content": ""},
        "logprobs": {"content": [], "refusal": None} if request.params.logprobs else None,
        "finish_reason": None,
        "seed": entry["seed"],
    }


def _add(choice: dict[str, Any], entry: Mapping[str, Any]) -> None:
    message, delta = choice["message"], entry["delta"]
    message["content"] += delta["content"]
    for call in delta.get("tool_calls", ()):
        calls = message.setdefault("tool_calls", [])
        if "id" in call:
            calls.append({"id": call["id"], "type": "function", "function": call["function"]})
        else:
            calls[-1]["function"]["arguments"] += call["function"]["arguments"]
    if entry["logprobs"]:
        choice["logprobs"]["content"] += entry["logprobs"]["content"]
    choice["finish_reason"] = entry["finish_reason"]
    if entry["finish_reason"] == "tool_calls" and not message["content"]:
        message["content"] = None
