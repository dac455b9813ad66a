"""Bodies: from a request's to what it asks for, from an answer's deltas to the response's."""

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from smollm2 import Model

import logitchain as lc
from logitchain.inputs.values import show

from .errors import ApiError, invalid
from .grammar import Grammars
from .prompt import render
from .schema import CONTEXT, MODEL, check
from .tools import Tools, read_tools


@dataclass(frozen=True)
class Request:
    """What a request asks for."""

    id: str
    created: int
    prompt: list[int]
    params: lc.Params  # with the model's own ends, and max_tokens within the context
    seeds: list[int]  # one for each of its answers
    tools: Tools
    resume_generation: bool
    stream: bool
    include_usage: bool


def new_id(kind: str) -> str:
    """A name that nothing else has."""
    return f"{kind}-{secrets.token_hex(12)}"


def read(body: Any, model: Model, grammars: Grammars) -> Request:
    """A request from its body as parsed; ApiError names the field that is at fault."""
    params, seeds = _params(body, model.tokenizer.vocab_size)
    _check_together(body, params)
    tools = read_tools(body, grammars)
    options = body.get("chat_template_kwargs") or {}
    prompt = model.tokenizer.encode(render(body["messages"], tools.functions, **options))
    left = CONTEXT - len(prompt)
    if left < 1:
        message = f"messages must have less than {CONTEXT} tokens, not {len(prompt)}"
        raise invalid(message, "messages")
    params = replace(
        params,
        eos_token=(*model.tokenizer.eos, *params.eos_token),
        max_tokens=min(params.max_tokens or left, left),
    )
    return Request(
        id=new_id("chatcmpl"),
        created=int(time.time()),
        prompt=prompt,
        params=params,
        seeds=seeds,
        tools=tools,
        resume_generation=bool(body.get("resume_generation")),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def _params(body: Any, vocab_size: int) -> tuple[lc.Params, list[int]]:
    """What the body says of sampling, and the seeds that the library makes of it."""
    try:
        params = lc.Params.from_request(body)
        check(body)
        batch = lc.Batch(vocab_size)
        return params, [batch.seed(row) for row in batch.add(params)]
    except (TypeError, ValueError) as error:
        raise invalid(str(error)) from None


def _check_together(body: Mapping[str, Any], params: lc.Params) -> None:
    """Fields that are right, each of them, and do not go together."""
    options = body.get("chat_template_kwargs") or {}
    last = body["messages"][-1]["role"]
    if body["model"] != MODEL:
        message = f"model must be {MODEL}, not {show(body['model'])}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if params.top_logprobs and not params.logprobs:
        raise invalid(f"top_logprobs must be 0 without logprobs, not {params.top_logprobs}")
    if params.min_tokens and body.get("tools"):
        raise invalid(f"min_tokens must be 0 with tools, not {params.min_tokens}")
    if body.get("stream_options") and not body.get("stream"):
        raise invalid("stream_options must be null without stream", "stream_options")
    if options.get("continue_final_message") and last != "assistant":
        where = "chat_template_kwargs.continue_final_message"
        raise invalid(f"{where} must be false where the last role is {last}", where)


def chunk(request: Request, choices: list[Any], usage: Any = None) -> dict[str, Any]:
    """A chunk of a stream."""
    body = _envelope(request, "chat.completion.chunk", choices)
    return body | ({"usage": usage} if request.include_usage else {})


def completion(request: Request, entries: Iterable[Any], usage: Any) -> dict[str, Any]:
    """The whole answer: all that the chunks of a stream would have said, put together."""
    choices: dict[int, dict[str, Any]] = {}
    for entry in entries:
        index, delta = entry["index"], entry["delta"]
        if index not in choices:
            choices[index] = {**entry, "message": {**delta, "refusal": None}}
            del choices[index]["delta"]
        else:
            _add(choices[index], entry)
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


def _add(choice: dict[str, Any], entry: Mapping[str, Any]) -> None:
    message, delta = choice["message"], entry["delta"]
    message["content"] += delta["content"]
    for told in delta.get("tool_calls", ()):
        calls = message.setdefault("tool_calls", [])
        if "id" in told:
            calls.append({name: told[name] for name in ("id", "type", "function")})
        else:
            calls[-1]["function"]["arguments"] += told["function"]["arguments"]
    if entry["logprobs"]:
        choice["logprobs"]["content"] += entry["logprobs"]["content"]
    choice["finish_reason"] = entry["finish_reason"]
    if entry["finish_reason"] == "tool_calls":
        message["content"] = message["content"] or None
