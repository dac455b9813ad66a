"""What a body may hold, as JSON Schema, and its check."""

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

import logitchain as lc
from logitchain.inputs.values import show, suggestion

from .errors import invalid
from .tools import BUILT_IN

MODEL = "SmolLM2-135M-Instruct"
VOCABULARY = 49_152
CONTEXT = 2_048  # positions that a prompt and its answer share
MOST_ROWS = 16  # that run at a time: one for each choice of each request
MOST_TEXTS = 64  # that are banned
MOST_KEPT, MOST_PAIRS = 512, 1 << 20  # tokens of a kept set, and of all kept sets of a response

Schema = dict[str, Any]


def fields(required: str = "", /, **properties: Schema) -> Schema:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def array(items: Schema, most: int, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def also(schema: Schema, *kinds: str) -> Schema:
    """A value of other types too. A keyword speaks of one type, so the others are free of it."""
    return {**schema, "type": [schema["type"], *kinds]}


STRING, BOOLEAN, NULL = {"type": "string"}, {"type": "boolean"}, {"type": "null"}
FLAG, TEXT, OBJECT = also(BOOLEAN, "null"), also(STRING, "null"), {"type": "object"}
NUMBER, CONST = {"type": "integer"}, {"const": "function"}

#: A text that the server splits into tokens, or looks for.
SHORT = {"type": "string", "minLength": 1, "maxLength": 256}
TOKEN = {"type": "integer", "minimum": 0, "maximum": VOCABULARY - 1}
TOKENS = array(TOKEN, most=CONTEXT, least=1)
#: A sequence of tokens: a list, or as FriendliAI writes it.
LISTED = {"items": TOKEN, "minItems": 1}
SEQUENCE = also({**fields("tokens", tokens={"type": "array", **LISTED}), **LISTED}, "array")

#: Where the library has token ids, and a text may stand here.
TEXTS = ("forced_output_tokens", "reasoning_start", "reasoning_end", "reasoning_message")
IDS = ("allowed_tokens", "banned_tokens", "penalty_exempt", "ngram_exempt")
FEW = ("dry_sequence_breakers", "eos_token", "stop_tokens", "logprob_token_ids")

#: Bounds of what a request may cost, which the library leaves to the server.
BOUNDS: dict[str, Schema] = {
    **{name: {"maxItems": VOCABULARY} for name in IDS},
    **{name: {"maxItems": 1024} for name in FEW},
    **{name: {"maxItems": CONTEXT, "maxLength": 256} for name in TEXTS},
    "bad_words": {"maxItems": 1024, "items": {"minLength": 1, "maxLength": 256}},
    "banned_texts": {"type": ["array", "null"], "items": SHORT, "maxItems": MOST_TEXTS},
    "logit_bias": {"maxProperties": VOCABULARY},
    "logprobs_of": {"enum": ["raw", "processed", *lc.DEFAULT_ORDER, None]},
    "top_logprobs": {"maximum": 1024},  # an entry of each takes half a kilobyte
    "seed": {"maxItems": MOST_ROWS},
    "n": {"maximum": MOST_ROWS},
    "stop": {"maxItems": 64, "maxLength": 256, "items": SHORT},
}

SAMPLING: dict[str, Schema] = {
    name: schema | BOUNDS.get(name, {})
    for name, schema in lc.json_schema(vocab_size=VOCABULARY)["properties"].items()
}
for _name in TEXTS:
    SAMPLING[_name]["type"] = ["string", *SAMPLING[_name]["type"]]
SAMPLING["bad_words"]["items"] = also(SEQUENCE | SHORT, "array", "object")
SAMPLING["stop_tokens"]["items"] = also(SEQUENCE | TOKEN, "array", "object")


def in_tokens(name: str, value: Any, encode: Callable[[str], list[int]]) -> Any:
    """The value of a sampling field with tokens for texts; without the texts that are banned."""
    if name in TEXTS and isinstance(value, str):
        return encode(value)
    if name in ("bad_words", "banned_texts") and isinstance(value, list):
        value = [x for x in value if not isinstance(x, str)]
    if name in ("bad_words", "stop_tokens") and isinstance(value, list):
        return [x.get("tokens") if isinstance(x, Mapping) else x for x in value]
    return value


CALLED = fields("name arguments", name=STRING, arguments=STRING)
CALL = fields("type function", id=STRING, index=NUMBER, type=CONST, function=CALLED)
PART = {
    **fields("type", type={"enum": ["text", "refusal"]}, text=STRING, refusal=STRING),
    "if": {"properties": {"type": {"const": "text"}}},
    "then": {"required": ["text"]},
    "else": {"required": ["refusal"]},
}
MESSAGE = {
    **fields(
        "role",
        role={"enum": ["system", "developer", "user", "assistant", "tool"]},
        content=also({**STRING, "items": PART, "maxItems": CONTEXT}, "array", "null"),
        name=TEXT,
        tool_call_id=STRING,
        tool_calls=also(array(CALL, most=128), "null"),
        # Clients send an assistant's message back with these fields of its response.
        refusal=TEXT,
        reasoning_content=TEXT,
        reasoning=TEXT,
        annotations=also(array(OBJECT, most=128), "null"),
        audio=NULL,
        function_call=NULL,
    ),
    "if": {"properties": {"role": {"const": "assistant"}}, "required": ["role"]},
    "else": {"properties": {"content": also(STRING, "array")}, "required": ["content"]},
}

NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}
FUNCTION = fields("name", name=NAME, description=TEXT, parameters=also(OBJECT, "null"), strict=FLAG)
TOOL = {
    **fields("type", type={"enum": ["function", *BUILT_IN]}, function=FUNCTION),
    "if": {"properties": {"type": CONST}, "required": ["type"]},
    "then": {"required": ["function"]},
}
NAMED = fields("type function", type=CONST, function=fields("name", name=STRING))
SCHEMA = fields("schema", name=NAME, description=TEXT, schema=OBJECT, strict=FLAG)
FORMAT = {
    **fields("type", type={"enum": ["text", "json_object", "json_schema"]}, json_schema=SCHEMA),
    "if": {"properties": {"type": {"const": "json_schema"}}},
    "then": {"required": ["json_schema"]},
}
TEMPLATE = fields(
    system_prompt=STRING,
    add_generation_prompt=BOOLEAN,
    continue_final_message=BOOLEAN,
    enable_thinking=BOOLEAN,
)
METADATA = {"maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 512}}

#: What both APIs have.
SHARED = {
    "model": also({**STRING, "default": MODEL}, "null"),
    **SAMPLING,
    "response_format": also(FORMAT, "null"),
    "stream": FLAG,
    "stream_options": also(fields(include_usage=FLAG, include_obfuscation=FLAG), "null"),
    "return_kept": {"type": ["boolean", "integer", "null"], "minimum": 1, "maximum": MOST_KEPT},
    **dict.fromkeys(("user", "safety_identifier", "prompt_cache_key"), TEXT),
    "metadata": also(OBJECT | METADATA, "null"),
    "store": FLAG,
    "service_tier": {"enum": ["auto", "default", None]},
}

CHAT = fields(
    "messages",
    messages=array(MESSAGE, most=CONTEXT, least=1),
    **SHARED,
    max_completion_tokens=SAMPLING["max_tokens"],
    tools=also(array(TOOL, most=128), "null"),
    tool_choice=also({**NAMED, "pattern": "^(none|auto|required)$"}, "string", "null"),
    parallel_tool_calls=FLAG,
    resume_generation=FLAG,
    reasoning_effort=TEXT,
    parse_reasoning=FLAG,
    include_reasoning=FLAG,
    chat_template_kwargs=also(TEMPLATE, "null"),
)

PROMPTS = {"anyOf": [STRING, array(STRING, most=MOST_ROWS, least=1), TOKENS]}
PROMPTS["anyOf"].append(array(TOKENS, most=MOST_ROWS, least=1))
COMPLETION = fields(
    prompt=PROMPTS,
    tokens=TOKENS,  # the name of a prompt of token ids in Friendli's API
    **(SHARED | {"logprobs": {**SAMPLING["top_logprobs"], "maximum": 5}, "top_logprobs": NULL}),
    echo=FLAG,
    best_of={"type": ["integer", "null"], "minimum": 1, "maximum": MOST_ROWS},
    **dict.fromkeys(("suffix", "embedding_to_replace", "token_index_to_replace"), NULL),
    bad_word_tokens=also(array(SEQUENCE, most=1024), "null"),
    encoder_no_repeat_ngram={"enum": [0, 1, None]},  # off: this model has no encoder
    encoder_repetition_penalty={"enum": [1, None]},
)


class Body:
    """Checks bodies of one API, field by field in their order: the first that is wrong is named.

    Of a sampling field only its bounds are checked here: the library checks the rest, faster and
    with better errors.
    """

    def __init__(self, schema: Schema) -> None:
        """`schema` is that of the whole body."""
        self.names, self.required = tuple(schema["properties"]), schema["required"]
        self.sampling = [x for x in SAMPLING if schema["properties"][x] == SAMPLING[x]]
        checked = schema["properties"] | {name: BOUNDS.get(name, {}) for name in self.sampling}
        self._validators = {x: Draft202012Validator(y, mask="it") for x, y in checked.items()}

    def check(self, body: Any) -> None:
        """Raise an ApiError that names the field of the body that is at fault."""
        if not isinstance(body, Mapping):
            raise invalid(f"the body must be a JSON object, not {show(body)}")
        for name, value in body.items():
            if name not in self.names:
                hint = suggestion(name, self.names)
                raise invalid(f"{name[:100]} is not a field of this API{hint}", name[:100])
            try:
                self._validators[name].validate(value)
                if name in self.sampling and value is not None:
                    _check(name, in_tokens(name, value, lambda text: []))
            except ValidationError as error:
                where, wrong = _complaint(error, name)
                raise invalid(f"{where} {wrong}", where) from None
            except (TypeError, ValueError) as error:
                raise invalid(str(error), name) from None
        for name in self.required:
            if name not in body:
                raise invalid(f"{name} is missing", name)


def _check(name: str, value: Any) -> None:
    """Check a sampling field alone, as the library does."""
    field = lc.FIELDS[name]
    checked = field.check(name, value)
    if "vocab_size" in field.range or name == "logit_bias":
        lc.Params(**{name: checked}).check_vocabulary(VOCABULARY)


def _complaint(error: ValidationError, where: str) -> tuple[str, str]:
    """(the field at fault, what is wrong with it)."""
    for step in error.instance_path:
        where += f"[{step}]" if isinstance(step, int) else f".{step}"
    rule, about = error.kind.name, error.kind.as_dict()
    if rule == "required":
        return f"{where}.{about['property']}", "is missing"
    if rule == "additionalProperties":
        return f"{where}.{about['unexpected'][0][:100]}", "is not a field of this API"
    return where, f"{error.message.removeprefix('it ')}: {show(error.instance)}"
