"""Bodies: from a request's to what it asks for, from an answer's deltas to the response's."""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Literal

from smollm2 import ChatTokenizer

import logitchain as lc
from logitchain.inputs.values import show

from .errors import ApiError, invalid
from .grammar import Grammars
from .prompt import THINK, render
from .schema import (
    CHAT,
    COMPLETION,
    CONTEXT,
    MODEL,
    MOST_KEPT,
    MOST_PAIRS,
    MOST_ROWS,
    MOST_TEXTS,
    SAMPLING,
    Body,
    in_tokens,
)
from .tools import Tools, read_tools

#: What an answer depends on besides the request: with the same, a seed gives the same answer.
FINGERPRINT = "fp_" + hashlib.sha256(f"{MODEL} {lc.__version__}".encode()).hexdigest()[:10]

_CHAT, _COMPLETION = Body(CHAT), Body(COMPLETION)


@dataclass(frozen=True)
class Request:
    """What a request asks for."""

    id: str
    api: Literal["chat", "completions"]
    prompts: list[list[int]]
    samples: list[lc.Params]  # of each prompt, with the model's own ends
    max_tokens: int
    tools: Tools
    resume_generation: bool
    stream: bool
    stream_options: Mapping[str, Any]
    echo: list[str]  # with what the answers to each prompt begin
    names_row: bool  # whether it says of which row its log-probabilities are to be
    kept: int  # how many tokens of each kept set the response has at most


def new_id(kind: str) -> str:
    """A name that nothing else has."""
    return f"{kind}-{secrets.token_hex(12)}"


def read_chat(body: Any, tokenizer: ChatTokenizer, grammars: Grammars) -> Request:
    """A request from its body as parsed; ApiError names the field that is at fault."""
    _CHAT.check(body)
    params = _params(body, tokenizer)
    if params.top_logprobs and not params.logprobs:
        message = f"top_logprobs must be 0 without logprobs, not {params.top_logprobs}"
        raise invalid(message, "top_logprobs")
    options = body.get("chat_template_kwargs") or {}
    last = body["messages"][-1]["role"]
    if options.get("continue_final_message") and last != "assistant":
        where = "chat_template_kwargs.continue_final_message"
        raise invalid(f"{where} must be false where the last role is {last}", where)
    tools = read_tools(body, grammars)
    text = render(body["messages"], tools.functions, **options)
    return _request(body, params, tokenizer, [text], "messages", tools)


def read_completion(body: Any, tokenizer: ChatTokenizer, grammars: Grammars) -> Request:
    """The same of the older API, whose prompt is a text or its tokens, or several of either."""
    _COMPLETION.check(body)
    where = "tokens" if "tokens" in body else "prompt"
    if ("tokens" in body) == ("prompt" in body):
        raise invalid("there must be a prompt, as text or as tokens", "prompt")
    prompts = body[where]
    if isinstance(prompts, str) or all(isinstance(x, int) for x in prompts):
        prompts = [prompts]
    top = body.get("logprobs")
    sampling = {name: x for name, x in body.items() if name != "logprobs"}
    given = sampling | {"logprobs": top is not None, "top_logprobs": top or 0}
    default = {} if body.get("max_total_tokens") else {"max_tokens": 16}
    given = default | {name: x for name, x in given.items() if x is not None}
    params = _params(given, tokenizer)
    if body.get("best_of") not in (None, params.n):
        raise invalid(f"best_of must be n = {params.n}, not {body['best_of']}", "best_of")
    return _request(body, params, tokenizer, prompts, where, read_tools(body, grammars))


def _params(body: Mapping[str, Any], tokenizer: ChatTokenizer) -> lc.Params:
    """What the body says of sampling, all fields together."""
    words = [*(body.get("bad_words") or ()), *(body.get("bad_word_tokens") or ())]
    texts = (*(body.get("banned_texts") or ()), *(x for x in words if isinstance(x, str)))
    if len(texts) > MOST_TEXTS:
        message = f"bad_words must have at most {MOST_TEXTS} texts, banned_texts included"
        raise invalid(f"{message}, not {len(texts)}", "bad_words")
    known = {*SAMPLING, "max_completion_tokens"}
    given = {
        x: in_tokens(x, value, tokenizer.encode)
        for x, value in {**body, "bad_words": words}.items()
        if x in known
    }
    if given.get("reasoning_grace") and not given.get("reasoning_line_ends"):
        given["reasoning_line_ends"] = _line_ends(tokenizer)
    if not given.get("reasoning_end"):  # those of the template, once they are needed
        given["reasoning_end"] = tokenizer.encode(THINK[1])
        given["reasoning_start"] = given.get("reasoning_start") or tokenizer.encode(THINK[0])
    try:
        params = lc.Params.from_request(given)
        return replace(params, banned_texts=_banned(texts, tokenizer)) if texts else params
    except (TypeError, ValueError) as error:
        raise invalid(str(error), getattr(error, "field", None)) from None


@lru_cache(maxsize=64)
def _banned(texts: tuple[str, ...], tokenizer: ChatTokenizer) -> lc.BannedTexts:
    """A list of texts that clients send again and again: to find its tokens takes 0.3 s."""
    return lc.BannedTexts(texts, tokenizer.vocabulary)


@cache
def _line_ends(tokenizer: ChatTokenizer) -> list[int]:
    return lc.line_ends(tokenizer.vocabulary)


def _request(
    body: Mapping[str, Any],
    params: lc.Params,
    tokenizer: ChatTokenizer,
    texts: list[Any],
    where: str,
    tools: Tools,
) -> Request:
    if body.get("model") not in (None, MODEL):
        message = f"model must be {MODEL}, not {show(body['model'])}"
        raise ApiError(404, message, code="model_not_found", param="model")
    for name in ("min_tokens", "min_total_tokens"):
        least = getattr(params, name)
        if least and tools.first:
            message = f"{name} must be 0 with tools or a response_format, not {least}"
            raise invalid(message, name)
    if body.get("stream_options") and not body.get("stream"):
        raise invalid("stream_options must be null without stream", "stream_options")
    if len(texts) * params.n > MOST_ROWS:
        message = f"n must be at most {MOST_ROWS // len(texts)} for {len(texts)} prompts"
        raise invalid(f"{message}, not {params.n}", "n")
    prompts = [_encoded(text, tokenizer, where) for text in texts]
    most, longest = params.max_total_tokens, max(map(len, prompts))
    if most is not None and most <= longest:
        message = f"max_total_tokens must be more than the prompt's {longest} tokens, not {most}"
        raise invalid(message, "max_total_tokens")
    ends = dict.fromkeys((*tokenizer.eos, *params.eos_token))
    samples = replace(params, eos_token=tuple(ends), max_tokens=None).samples()
    return Request(
        id=new_id("chatcmpl" if "messages" in body else "cmpl"),
        api="chat" if "messages" in body else "completions",
        prompts=prompts,
        samples=samples,
        max_tokens=params.max_tokens or CONTEXT,
        tools=tools,
        resume_generation=bool(body.get("resume_generation")),
        stream=bool(body.get("stream")),
        stream_options=body.get("stream_options") or {},
        echo=[_text(x, tokenizer) if body.get("echo") else "" for x in texts],
        names_row=body.get("logprobs_of") is not None,
        kept=_kept(body.get("return_kept"), len(texts) * params.n, params.max_tokens or CONTEXT),
    )


def _kept(asked: bool | int | None, answers: int, tokens: int) -> int:
    """How many tokens of each kept set to return: as many as were asked for, if all fit."""
    most = min(MOST_KEPT, MOST_PAIRS // (answers * min(tokens, CONTEXT)))
    if asked is True or not asked:
        return most if asked else 0
    if asked > most:
        message = f"return_kept must be at most {most} for {answers} answers of {tokens} tokens"
        raise invalid(f"{message}, not {asked}", "return_kept")
    return int(asked)


def _text(prompt: str | list[int], tokenizer: ChatTokenizer) -> str:
    return prompt if isinstance(prompt, str) else tokenizer.decode(prompt)


def _encoded(text: str | list[int], tokenizer: ChatTokenizer, where: str) -> list[int]:
    """The tokens of a prompt; ApiError, without reading all of it, if there are too many."""
    most = CONTEXT * tokenizer.longest
    if isinstance(text, list) or len(text) <= most:
        tokens = tokenizer.encode(text) if isinstance(text, str) else text
        if len(tokens) < CONTEXT:
            return tokens or [tokenizer.eos[1]]  # which begins a text
    size = len(tokens) if len(text) <= most else f"{len(text)} characters"
    raise invalid(f"{where} must have less than {CONTEXT} tokens, not {size}", where)


def chunk(request: Request, choices: list[Any], usage: Any = None) -> dict[str, Any]:
    """A chunk of a stream."""
    body = _envelope(request, "chat.completion.chunk", choices)
    if request.stream_options.get("include_usage"):
        body["usage"] = usage
    if request.stream_options.get("include_obfuscation"):
        body["obfuscation"] = secrets.token_urlsafe(32)[: secrets.randbelow(32)]
    return body


def completion(request: Request, choices: list[Any], usage: Any) -> dict[str, Any]:
    """The whole answer."""
    return _envelope(request, "chat.completion", choices) | {"usage": usage}


def _envelope(request: Request, kind: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": request.id,
        "object": kind if request.api == "chat" else "text_completion",
        "created": int(time.time()),  # when a token was sampled, and so when all is complete
        "model": MODEL,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }
