"""Short ways to ask the server something."""

import json
import time
import urllib.error
import urllib.request

MODEL = "SmolLM2-135M-Instruct"
TOKEN = "a token"  # of the server that wants one
FRANCE = "What is the capital of France?"
ANSWER = "The capital of France is Paris."  # what the model says to it at temperature 0

#: Fields that can be off alone: no suffix, no embeddings, no encoder.
OFF = {"suffix": None, "embedding_to_replace": None, "token_index_to_replace": None}
OFF |= {"encoder_no_repeat_ngram": 1, "encoder_repetition_penalty": 1.0}


def function(name, **properties):
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


CALCULATOR = {"type": "math:calculator"}
RATE = function("rate", stars={"type": "integer", "minimum": 1, "maximum": 5})


def user(content):
    return [{"role": "user", "content": content}]


def ask(client, content=FRANCE, **fields):
    """A whole answer; what the client has no argument for goes into the body all the same."""
    messages = user(content) if isinstance(content, str) else content
    body = {"max_tokens": 16} | fields
    return client.chat.completions.create(model=MODEL, messages=messages, extra_body=body)


def say(client, content=FRANCE, **fields):
    """The text of the first choice."""
    return ask(client, content, **fields).choices[0].message.content


def stream(client, content=FRANCE, **fields):
    """All chunks of a streamed answer."""
    messages = user(content) if isinstance(content, str) else content
    body = {"max_tokens": 16} | fields
    return list(
        client.chat.completions.create(model=MODEL, messages=messages, stream=True, extra_body=body)
    )


def told(answer):
    """What an answer says, without the ids that differ each time."""
    return [
        {
            "content": choice.message.content or "",
            "calls": [
                [call.function.name, call.function.arguments]
                for call in choice.message.tool_calls or ()
            ],
            "logprobs": choice.logprobs.content if choice.logprobs else [],
            "seed": choice.seed,
            "finish_reason": choice.finish_reason,
        }
        for choice in answer.choices
    ]


def post(url, body, headers=(), path="/v1/chat/completions"):
    """(status, parsed body) of a POST of anything."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        url + path,
        data,
        {"Content-Type": "application/json", **dict(headers)},
    )
    return _opened(request)


def get(url, path, headers=()):
    return _opened(urllib.request.Request(url + path, headers=dict(headers)))


def _opened(request):
    try:
        with urllib.request.urlopen(request, timeout=240) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def health(url):
    return get(url, "/health")[1]


def wait_for(url, seconds=60, **wanted):
    """Wait until /health shows these numbers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = health(url)
        if all(state[name] == value for name, value in wanted.items()):
            return state
        time.sleep(0.05)
    raise AssertionError(f"{state}, not {wanted}, after {seconds} s")
