"""Messages and functions to the text that the model reads: its chat template, with tools."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smollm2 import SYSTEM

#: How a call is written, in the template, in the grammar and in the answer's text.
OPEN, MIDDLE, CLOSE = '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"
ANSWER = "<|im_start|>assistant\n"
END = "<|im_end|>\n"
THINK = ("<think>", "</think>")  # around the reasoning, if a request sets bounds to it

_TOOLS = """\


You can call functions. These are there:
<tools>
{functions}
</tools>
To call one, say its name and its arguments:
{call}"""


def render(
    messages: Sequence[Mapping[str, Any]],
    functions: Iterable[Mapping[str, Any]] = (),
    *,
    system_prompt: str = SYSTEM,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    enable_thinking: bool = False,
) -> str:
    """The prompt. The keyword arguments are what a request may give as `chat_template_kwargs`.

    system_prompt            what the system says if `messages` do not start with it
    add_generation_prompt    whether an answer of the assistant is begun at the end
    continue_final_message   the last message is left open, for the answer to go on with it
    enable_thinking          without effect: this model has one mode, as other templates have two
    """
    roles = [message["role"].replace("developer", "system") for message in messages]
    texts = [_said(message) for message in messages]
    if roles[0] != "system":
        roles, texts = ["system", *roles], [system_prompt, *texts]
    texts[0] += _described(functions)
    turns = "".join(map(_turn, roles, texts))
    if continue_final_message:
        return turns.removesuffix(END)
    return turns + (ANSWER if add_generation_prompt else "")


def render_results(results: Iterable[str]) -> str:
    """What follows the text of an answer that called tools: their results, then its next turn."""
    return END + "".join(_turn("tool", text) for text in results) + ANSWER


def _turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}{END}"


def _said(message: Mapping[str, Any]) -> str:
    """A message's content, and what it calls."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text") or part.get("refusal") or "" for part in content)
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    lines = [OPEN + call["name"] + MIDDLE + call["arguments"] + CLOSE for call in calls]
    return "\n".join([content, *lines] if content else lines)


def _described(functions: Iterable[Mapping[str, Any]]) -> str:
    lines = [json.dumps(function) for function in functions]
    call = f"{OPEN}...{MIDDLE}{{...}}{CLOSE}"
    return _TOOLS.format(functions="\n".join(lines), call=call) if lines else ""
