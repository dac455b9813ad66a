"""What settings do to the next token of a text: the request of the page, and its answer."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from time import perf_counter
from typing import Any

from smollm2 import Model
from tokenizers import Tokenizer

import logitchain as lc
from logitchain.params import fields_of
from logitchain.presets import NAMED

from .logits import Logits

#: Bounds on the work of a request.
MOST_SETTINGS, MOST_PROMPT, MOST_OUTPUT, MOST_TOKENS = 2, 1_000, 300, 200

#: The page's own checks: name of the part -> its type.
SHAPE = {"prompt": str, "settings": list, "tokens": list}


class Explainer:
    """Explains the next token of a text under one setting or two, with the model's logits."""

    def __init__(self, model: Model, chain: lc.Chain, params: type[lc.Params]) -> None:
        """The controls of `chain` can be used beside the built-in ones, the fields of `params`."""
        self.tokenizer, self.params = model.tokenizer, params
        self.entries = {**NAMED, **{step.name: step.control or step.call for step in chain.steps}}
        self.logits = Logits(model)
        self._names = Tokenizer.from_str(model.tokenizer.to_json())
        self._lock = threading.Lock()
        self._chain = lru_cache(64)(self._new_chain)
        self._banned = lru_cache(64)(self._new_banned)

    def warmup(self) -> None:
        """Compile what the page needs, which otherwise waits for its first question."""
        order = [[name, {}] for name in self.entries]
        setting = {"order": order, "body": {"seed": 0}, "output": []}
        self._chain(json.dumps(order)).warmup()
        self.explain({"prompt": "Hello!", "settings": [setting], "tokens": []})

    def explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The page's request answered. Raises ValueError or TypeError for a malformed one.

        asked   prompt     what the user says
                settings   one or two of {"order": [[control, options]], "body": fields of a
                           request, "output": the ids of the tokens generated so far}
                tokens     further token ids to tell about
        """
        for name, kind in SHAPE.items():
            if not isinstance(asked.get(name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}")
        if not 1 <= len(asked["settings"]) <= MOST_SETTINGS:
            raise ValueError(f"settings must be 1 to {MOST_SETTINGS}")
        prompt = self.tokenizer.chat([{"role": "user", "content": asked["prompt"]}])
        if len(prompt) > MOST_PROMPT:
            raise ValueError(
                f"the prompt must have at most {MOST_PROMPT} tokens, not {len(prompt)}"
            )
        with self._lock:
            started = perf_counter()
            for setting in asked["settings"]:
                self.logits.after(prompt, self._output(setting))
            read = perf_counter()
            found = [self._explained(prompt, setting) for setting in asked["settings"]]
            explanations = [x[0] for x in found if isinstance(x, tuple)]  # others have errors
            tokens = self._ids("tokens", asked["tokens"], MOST_TOKENS)
            ids = list(dict.fromkeys([*(i for x in explanations for i in x.likeliest()), *tokens]))
            if explanations:  # in the order of the logits of the first text
                ids.sort(key=lambda i: (-explanations[0].stages[0].logits[i], i))
            results = [
                {**x[0].as_dict(ids), **x[1]} if isinstance(x, tuple) else {"errors": x}
                for x in found
            ]
            done = perf_counter()
        return {
            "tokens": [self.token(i) for i in ids],
            "results": results,
            "prompt_tokens": len(prompt),
            "milliseconds": {"model": 1e3 * (read - started), "chain": 1e3 * (done - read)},
        }

    def token(self, token: int) -> dict[str, Any]:
        """A token as the page shows it: its text, and its bytes where they are no text alone."""
        data = self.tokenizer.token_bytes(token)
        if not data:
            return {"id": token, "text": self._names.id_to_token(token), "special": True}
        try:
            return {"id": token, "text": data.decode()}
        except UnicodeDecodeError:
            return {"id": token, "text": data.hex(" ").upper(), "bytes": list(data)}

    def tokens(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The tokens of a text, or those with the given ids."""
        ids = asked.get("ids")
        if ids is None:
            text = asked.get("text")
            if not isinstance(text, str):
                raise TypeError("text must be a str")
            ids = self.tokenizer.encode(text)
        return [self.token(i) for i in self._ids("ids", ids, MOST_OUTPUT)]

    def _explained(self, prompt: list[int], setting: Mapping[str, Any]) -> Any:
        """(the explanation, what else there is to tell of it), or the errors by field."""
        body, output = setting["body"], self._output(setting)
        try:
            chain = self._chain(json.dumps(setting["order"]))
            params = self._params(body)
            batch, row = self._row(chain, params, prompt, output)
            explained = chain.explain(self.logits.after(prompt, output), batch, row)
            return explained, {**_kept(explained), **self._finish(params, prompt, output)}
        except (TypeError, ValueError) as error:
            return self._errors(body, error)

    def _params(self, body: Mapping[str, Any]) -> lc.Params:
        """The request of one sample."""
        how: Any = {"eos_token": self.tokenizer.eos, "passthrough": ["banned_texts"]}
        params = self.params.from_request(body, **how)
        texts = body.get("banned_texts")
        if texts:
            params = replace(params, banned_texts=self._banned(tuple(texts)))
        if params.reasoning_grace and not params.reasoning_line_ends:
            params = replace(params, reasoning_line_ends=self._line_ends)
        seed = params.seed[0] if isinstance(params.seed, tuple) else params.seed
        return replace(params, n=1, seed=seed, logprobs=False, top_logprobs=0)

    def _row(
        self, chain: lc.Chain, params: lc.Params, prompt: list[int], output: list[int]
    ) -> tuple[lc.Batch, int]:
        """A batch of the text's row, with the state that its tokens leave under this setting."""
        batch = lc.Batch(self.tokenizer.vocab_size)
        controls = [step.control for step in chain.steps if step.control and step.control.state]
        carried = output if any(control.is_on(params) for control in controls) else []
        (row,) = batch.add(params, prompt, [] if carried else output)
        for position, token in enumerate(carried):
            chain.carry(self.logits.after(prompt, carried[:position]), batch, [token])
            batch.append([token])
        return batch, row

    def _new_banned(self, texts: tuple[str, ...]) -> lc.BannedTexts:
        return lc.BannedTexts(texts, self.tokenizer.vocabulary)

    @cached_property
    def _line_ends(self) -> list[int]:
        return lc.line_ends(self.tokenizer.vocabulary)

    def _finish(self, params: lc.Params, prompt: list[int], output: list[int]) -> dict[str, Any]:
        """Why the output has ended, and by what, as a response says it; None if it goes on."""
        choice = lc.Choice(
            params,
            self.tokenizer.token_bytes,
            seed=params.seed or 0,
            prompt_tokens=prompt,
            special_tokens=self.tokenizer.special_tokens,
        )
        for token in output:
            choice.append(token)
            if choice.finish_reason:
                break
        return {"finish": choice.finish_reason, "stop_reason": choice.stop_reason}

    def _errors(self, body: Mapping[str, Any], error: Exception) -> dict[str, str]:
        """Each field with what is wrong with it; "" is the field of what concerns no single one."""
        fields, errors = fields_of(self.params), {}
        for name, value in body.items():
            try:
                if name in fields and name != "banned_texts":
                    checked = fields[name].check(name, value)
                    if "vocab_size" in fields[name].range or name == "logit_bias":
                        self.params(**{name: checked}).check_vocabulary(self.tokenizer.vocab_size)
                else:
                    self._params({name: value})
            except (TypeError, ValueError) as fault:
                errors[name] = _plain(name, fault)
        name = getattr(error, "field", None) or ""  # of fields that contradict each other
        return errors or {name: _plain(name, error)}

    def _new_chain(self, order: str) -> lc.Chain:
        steps = [(self.entries.get(name, name), options) for name, options in json.loads(order)]
        return lc.Chain([x if isinstance(x[0], (str, lc.Control)) else x[0] for x in steps])

    def _output(self, setting: Any) -> list[int]:
        """The tokens generated so far, with the shape of the setting checked."""
        if not isinstance(setting, Mapping) or not isinstance(setting.get("body"), Mapping):
            raise TypeError("a setting must have a body, an order and an output")
        order = setting.get("order")
        if not isinstance(order, list) or not all(_is_pair(entry) for entry in order):
            raise TypeError("order must be a list of pairs, a control and its options")
        if len(order) > 2 * len(self.entries):
            raise ValueError(f"order must have at most {2 * len(self.entries)} controls")
        return self._ids("output", setting.get("output"), MOST_OUTPUT)

    def _ids(self, name: str, ids: Any, most: int) -> list[int]:
        size = self.tokenizer.vocab_size
        if not isinstance(ids, Sequence) or len(ids) > most:
            raise ValueError(f"{name} must be a list of at most {most} token ids")
        if not all(type(token) is int and 0 <= token < size for token in ids):
            raise ValueError(f"{name} must be token ids in [0, {size})")
        return list(ids)


def _kept(explained: lc.Explanation) -> dict[str, Any]:
    """The tokens that could be drawn, and whether a watermark's key has decided between them."""
    first, last = explained.stages[0], explained.stages[-1]
    mass = float(first.probs[last.left].sum())
    kept = {"tokens": last.kept, "mass": mass, "entropy": last.entropy}
    return {"kept": kept, "watermarked": explained.is_watermarked}


def _plain(name: str, error: Exception) -> str:
    return str(error).removeprefix(f"request body, field {name!r}: ")


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], dict)
    )
