"""A real model writes under the whole chain: `make demo`, or see `--help`.

Streams n answers to one request, repeats the request to show that the texts are the same, and
explains one step as a table and as a picture.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from engine import Answer, answer
from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text
from smollm2 import Model

import logitchain as lc

console = Console(width=None if Console().is_terminal else 100, highlight=False)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--request", default="docs/examples/chat.json", help="a request body")
    parser.add_argument("--prompt", default="", help="what to say instead of its last message")
    parser.add_argument("--picture", default="build/demo.png", help="where the picture goes")
    arguments = parser.parse_args()
    try:
        body = read(Path(arguments.request), arguments.prompt)
        console.rule("the request")
        console.print(Syntax(json.dumps(body, indent=2), "json", background_color="default"))
        started = time.perf_counter()
        with console.status("loading SmolLM2-135M-Instruct"):
            model = Model.load()
        console.print(f"model loaded in {time.perf_counter() - started:.1f} s")
        warm_up(model, body)
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(f"{arguments.request}: {error}") from None

    console.rule("the answers")
    first = stream(model, body)
    report(first)

    console.rule("the same request again")
    with console.status("repeating"):
        again = answer(model, with_seeds(body, first))
    same = [a.text == b.text for a, b in zip(first.choices, again.choices, strict=True)]
    for choice, is_same in zip(again.choices, same, strict=True):
        console.print(f"seed {choice.seed}: {'identical' if is_same else 'DIFFERENT'}")

    console.rule("why was this token picked?")
    explanation = explain(model, body, first)
    console.print(Text(str(explanation)), soft_wrap=True)
    picture = Path(arguments.picture)
    picture.parent.mkdir(parents=True, exist_ok=True)
    explanation.plot(picture)
    console.print(f"\npicture of that step: {picture}")
    if not all(same):
        raise SystemExit("the same seeds gave different texts")


def read(path: Path, prompt: str) -> dict[str, Any]:
    """The request body in a file, checked before a model is loaded for it.

    Raises ValueError or TypeError that names the field.
    """
    body = json.loads(path.read_text(encoding="utf-8"))
    lc.Params.from_request(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list of messages, each with role and content")
    for message in messages:
        texts = message if isinstance(message, dict) else {}
        if not all(isinstance(texts.get(name), str) for name in ("role", "content")):
            raise ValueError(f"a message must have role and content, two strings, not {message}")
    if prompt:
        messages[-1]["content"] = prompt
    return body


def warm_up(model: Model, body: dict[str, Any]) -> None:
    """Two tokens, so that compiling the kernels is not counted as sampling."""
    started = time.perf_counter()
    with console.status("two tokens first: a first run compiles the kernels, and keeps them"):
        answer(model, {**body, "max_tokens": 2, "min_tokens": 0})
    console.print(f"kernels ready in {time.perf_counter() - started:.1f} s")


def stream(model: Model, body: dict[str, Any]) -> Answer:
    """Answer the request, showing the texts as they grow."""
    with Live(console=console, refresh_per_second=12, transient=True) as live:
        result = answer(model, body, progress=lambda so_far: live.update(panels(so_far)))
    console.print(panels(result))
    return result


def panels(result: Answer) -> Columns:
    """The texts side by side."""
    boxes = [
        Panel(
            Text(choice.text.strip()),
            title=f"seed {choice.seed}",
            subtitle=choice.finish_reason or f"{result.tokens_per_second:.0f} tokens/s",
            width=max(30, console.width // len(result.choices) - 1),
        )
        for choice in result.choices
    ]
    return Columns(boxes)


def report(result: Answer) -> None:
    """What the answers cost."""
    tokens = sum(len(choice.tokens) for choice in result.choices)
    console.print(
        f"{tokens} tokens, {result.tokens_per_second:.1f} tokens/s in all; "
        f"sampling took {result.sampling_share:.1%} of the time, "
        f"{result.sampling_seconds / tokens * 1e6:.0f} us a token"
    )


def with_seeds(body: dict[str, Any], result: Answer) -> dict[str, Any]:
    """The request with the seeds that its answers had, for one that named none."""
    return {**body, "seed": [choice.seed for choice in result.choices]}


def explain(model: Model, body: dict[str, Any], result: Answer) -> lc.Explanation:
    """The step of the first answer in which most controls did something."""
    tokenizer, choice = model.tokenizer, result.choices[0]
    chain = lc.Chain()
    best: lc.Explanation | None = None
    for position, logits in enumerate(result.logits):
        batch = lc.Batch(tokenizer.vocab_size)
        params = lc.Params.from_request({**body, "n": 1, "seed": choice.seed})
        (row,) = batch.add(params, result.prompt, choice.tokens[:position])
        step = chain.explain(logits, batch, row, decode=lambda token: tokenizer.decode([token]))
        if step.token != choice.tokens[position]:
            raise SystemExit(f"position {position}: explained another token than was drawn")
        if best is None or interest(step) > interest(best):
            best = step
    assert best is not None
    return best


def interest(step: lc.Explanation) -> tuple[int, float]:
    """How much a step has to show: controls that did something, then the mass they removed."""
    return (
        sum(stage.changed for stage in step.stages),
        sum(stage.removed_mass for stage in step.stages),
    )


if __name__ == "__main__":
    main()
