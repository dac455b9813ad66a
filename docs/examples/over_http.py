"""The chain over HTTP, for an engine without a hook: `over_http.py URL MODEL "Tell me a story."`

Each token is a request of its own: the engine's best log-probabilities come in, the chain picks
one of them, and the next request goes on after its text.
"""

import json
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import logitchain as lc

MOST = 20  # as many of the best tokens as the API tells


def answer(
    url: str,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    params: lc.Params,
    token_id: Callable[[bytes], int] | None = None,
    vocab_size: int = 2**16,
) -> str:
    """The answer's text.

    token_id   a token's bytes -> its id, b"" being the end; by default the order in which they are
               met, which draws as well but not as the engine's ids would
    """
    met: dict[bytes, int] = {}
    token_id = token_id or (lambda token: met.setdefault(token, len(met)))
    chain, batch = lc.Chain(), lc.Batch(vocab_size)
    (row,) = batch.add(params)
    text = b""
    while len(batch.output(row)) < (params.max_tokens or 16):
        best = best_tokens(url, model, [*messages, {"role": "assistant", "content": text.decode()}])
        ids = {token_id(token): token for token in best}
        logits = np.full(vocab_size, -np.inf, np.float32)
        logits[list(ids)] = [best[token] for token in ids.values()]
        (token,) = chain.sample(logits, batch)
        batch.append([token])
        if not ids[int(token)]:
            break
        text += ids[int(token)]
    return text.decode()


def best_tokens(url: str, model: str, messages: Sequence[Mapping[str, Any]]) -> dict[bytes, float]:
    """The likeliest next tokens, as bytes, and their log-probabilities."""
    body = {
        **{"model": model, "messages": messages, "max_tokens": 1, "temperature": 0},
        **{"logprobs": True, "top_logprobs": MOST},
        "chat_template_kwargs": {"continue_final_message": True},
    }
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        (choice,) = json.load(response)["choices"]
    content = choice["logprobs"]["content"]
    if not content:  # it would end here
        return {b"": 0.0}
    best = content[0]["top_logprobs"]
    return {as_bytes(entry): entry["logprob"] for entry in reversed(best)}


def as_bytes(entry: Mapping[str, Any]) -> bytes:
    """A token's bytes; some engines tell its text alone."""
    told = entry.get("bytes")
    return str(entry["token"]).encode() if told is None else bytes(told)


if __name__ == "__main__":
    params = lc.Params(temperature=0.8, min_p=0.05, xtc_probability=0.5, xtc_threshold=0.1, seed=7)
    print(answer(*sys.argv[1:3], [{"role": "user", "content": sys.argv[3]}], params))
