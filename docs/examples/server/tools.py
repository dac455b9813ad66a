"""Tools: which there are, which the request has, and what it says about calling them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .calculator import EXPRESSION, calculate
from .errors import invalid
from .grammar import Grammar, Grammars, calls

Function = Mapping[str, Any]

NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}

#: Tools that the server runs itself: what the model is told, and what runs.
BUILT_IN: dict[str, tuple[Function, Callable[..., str]]] = {
    "math:calculator": (
        {
            "name": "math:calculator",
            "description": "Computes the value of an arithmetic expression such as (3 + 4) * 5.",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string", "pattern": EXPRESSION}},
                "required": ["expression"],
                "additionalProperties": False,
            },
        },
        calculate,
    )
}


@dataclass(frozen=True)
class Tools:
    """What a request says of tools."""

    functions: Sequence[Function] = ()  # what the model is told
    first: Grammar | None = None  # what it may answer at first
    later: Grammar | None = None  # and after a built-in tool's result: then no call is required


def read_tools(body: Mapping[str, Any], grammars: Grammars) -> Tools:
    """The tools of a request; ApiError if they do not go with its `tool_choice`."""
    functions = [_function(tool) for tool in body.get("tools") or ()]
    names = [function["name"] for function in functions]
    if len(set(names)) < len(names):
        raise invalid("tools must have distinct names", "tools")
    choice = body.get("tool_choice") or ("auto" if functions else "none")
    if choice == "none":
        return Tools()
    if not functions:
        raise invalid(f"tool_choice must be none without tools, not {choice}", "tool_choice")
    wanted = functions
    if isinstance(choice, Mapping):
        name = choice["function"]["name"]
        if name not in names:
            message = f"tool_choice must name one of {', '.join(names)}, not {name!r}"
            raise invalid(message, "tool_choice")
        wanted = [functions[names.index(name)]]
    parallel = body.get("parallel_tool_calls") is not False
    later = grammars.compile(calls(functions, text=True, parallel=parallel))
    if choice == "auto":
        return Tools(functions, later, later)
    return Tools(functions, grammars.compile(calls(wanted, text=False, parallel=parallel)), later)


def _function(tool: Mapping[str, Any]) -> Function:
    if tool["type"] in BUILT_IN:
        return BUILT_IN[tool["type"]][0]
    return {"parameters": NO_PARAMETERS, **tool["function"]}
