"""Tools and formats: what the request has of them, and the grammar that holds an answer to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .calculator import EXPRESSION, calculate
from .errors import invalid
from .grammar import ANY_OBJECT, Grammar, Grammars, calls

Function = Mapping[str, Any]

NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}

#: Tools that the server runs itself: how the prompt describes each, and what runs.
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
    """What a request says of tools and of the answer's format."""

    functions: Sequence[Function] = ()  # as the prompt describes them
    first: Grammar | None = None  # what it may answer at first
    later: Grammar | None = None  # and after a built-in tool's result: then no call is required
    required: bool = False  # whether the answer has to begin with a call


def read_tools(body: Mapping[str, Any], grammars: Grammars) -> Tools:
    """The tools and the format of a request; ApiError if they do not go with its `tool_choice`."""
    text = _format(body.get("response_format"), grammars)
    functions = [_function(tool) for tool in body.get("tools") or ()]
    names = [function["name"] for function in functions]
    if len(set(names)) < len(names):
        raise invalid("tools must have distinct names", "tools")
    choice = body.get("tool_choice") or ("auto" if functions else "none")
    if choice == "none":
        only = grammars.compile(f"start: {text}", "response_format") if text else None
        return Tools(first=only, later=only)
    if not functions:
        raise invalid(f"tool_choice must be none without tools, not {choice}", "tool_choice")
    rules = {
        function["name"]: grammars.value(
            function["parameters"], bool(function.get("strict")), f"tools[{i}].function.parameters"
        )
        for i, function in enumerate(functions)
    }
    wanted = rules
    if isinstance(choice, Mapping):
        name = choice["function"]["name"]
        if name not in names:
            message = f"tool_choice must name one of {', '.join(names)}, not {name!r}"
            raise invalid(message[:500], "tool_choice")
        wanted = {name: rules[name]}
    parallel = body.get("parallel_tool_calls") is not False
    later = grammars.compile(calls(rules, text=text, parallel=parallel), "tools")
    if choice == "auto":
        return Tools(functions, later, later)
    first = grammars.compile(calls(wanted, text=None, parallel=parallel), "tools")
    return Tools(functions, first, later, required=True)


def _function(tool: Mapping[str, Any]) -> Function:
    if tool["type"] in BUILT_IN:
        return BUILT_IN[tool["type"]][0]
    given = {name: value for name, value in tool["function"].items() if value is not None}
    return {"parameters": NO_PARAMETERS, **given}


def _format(given: Mapping[str, Any] | None, grammars: Grammars) -> str:
    """The rule of an answer in the request's `response_format`; "" for any text."""
    if given is None or given["type"] == "text":
        return ""
    schema, strict = ANY_OBJECT, False
    if given["type"] == "json_schema":
        schema, strict = given["json_schema"]["schema"], bool(given["json_schema"].get("strict"))
    return grammars.value(schema, strict, "response_format.json_schema.schema")
