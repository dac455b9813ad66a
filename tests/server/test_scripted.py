"""The scheduler with a model that says what it is told to: what the real one seldom does."""

import json
import queue
import threading

import numpy as np
import pytest
from asking import CALCULATOR, MODEL, RATE, function, user
from server.errors import ApiError
from server.prompt import ANSWER, CLOSE, MIDDLE, OPEN
from server.scheduler import Scheduler
from server.schema import CONTEXT
from server.tools import BUILT_IN

from server import protocol


class Cache(list):
    """All tokens that were read."""

    def fork(self):
        return Cache(self)


class Scripted:
    """A model that in its n-th turn of a conversation says the n-th text of its script."""

    def __init__(self, tokenizer, script):
        self.tokenizer = tokenizer
        self.script = [tokenizer.encode(text) for text in script]
        self.begin = tokenizer.encode(ANSWER)

    def new_cache(self):
        return Cache()

    def step(self, caches, tokens):
        return self.forward(caches, [[token] for token in tokens])

    def forward(self, caches, tokens):
        logits = np.zeros((len(caches), self.tokenizer.vocab_size), np.float32)
        for row, cache, part in zip(logits, caches, tokens, strict=True):
            cache.extend(part)
            row[self.next(cache)] = 50
        return logits

    def next(self, tokens):
        size = len(self.begin)
        turns = [i for i in range(len(tokens)) if tokens[i : i + size] == self.begin]
        if not turns:
            return 0
        text, said = self.script[len(turns) - 1], len(tokens) - turns[-1] - size
        return text[said] if said < len(text) else self.tokenizer.eos[0]


@pytest.fixture
def answer(tokenizer, grammars):
    """What comes of a script and the fields of a request."""

    def run(*script, whole=False, scheduler=Scheduler, **fields):
        scheduler = scheduler(Scripted(tokenizer, script))
        body = {"model": MODEL, "messages": user("Hi"), "seed": 1, **fields}
        request = protocol.read_chat(body, tokenizer, grammars)
        body = scheduler.answer(request).response()
        assert scheduler.status() == {"running": 0, "waiting": 0}
        return body if whole else body["choices"][0]

    return run


def call(name, arguments):
    return OPEN + name + MIDDLE + json.dumps(arguments) + CLOSE


FAIL = call("math:calculator", {"expression": "1/0"})


def test_an_answer_goes_on_after_eight_failures_and_not_after_nine(answer):
    fields = {"tools": [CALCULATOR], "resume_generation": True}
    assert answer(*[FAIL] * 8, "I give up.", **fields)["message"]["content"] == "I give up."
    with pytest.raises(ApiError, match="division by zero"):
        answer(*[FAIL] * 9, "I give up.", **fields)
    with pytest.raises(ApiError, match="division by zero"):
        answer(FAIL, "I give up.", tools=[CALCULATOR])


def test_text_around_calls_is_kept(answer):
    six = call("math:calculator", {"expression": "2*3"})
    choice = answer(f"Let me see. {six}", " It is 6.", tools=[CALCULATOR])
    assert choice["message"]["content"] == "Let me see.  It is 6."
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


def test_the_next_turn_goes_on_at_the_next_position(tokenizer, grammars):
    """One seed draws all of an answer, so no position may come twice."""

    class Watched(Scheduler):
        positions = ()

        def _draw(self):
            self.positions += tuple(self.batch.positions.tolist())
            super()._draw()

    text = call("math:calculator", {"expression": "2*3"})
    scheduler = Watched(Scripted(tokenizer, [text, "It is 6."]))
    body = {"model": MODEL, "messages": user("Hi"), "seed": 1, "tools": [CALCULATOR]}
    job = scheduler.answer(protocol.read_chat(body, tokenizer, grammars))
    assert scheduler.positions == tuple(range(job.usage["completion_tokens"]))


def test_auto_calls_of_a_function(answer):
    text = "Of course. " + call("rate", {"stars": 4}) + "\n" + call("rate", {"stars": 5})
    choice = answer(text, tools=[RATE, CALCULATOR])
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Of course. "
    told = [call["function"] for call in choice["message"]["tool_calls"]]
    assert told == [
        {"name": "rate", "arguments": '{"stars": 4}'},
        {"name": "rate", "arguments": '{"stars": 5}'},
    ]
    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 2


def test_auto_holds_a_call_to_the_schema(answer):
    """The script wants nine stars of five; the grammar has none of it."""
    choice = answer(call("rate", {"stars": 9}), tools=[RATE], max_tokens=60)
    (told,) = choice["message"]["tool_calls"]
    assert json.loads(told["function"]["arguments"])["stars"] in range(1, 6)


#: What no grammar holds, or not all of it.
HARD = {
    "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "not": {"type": "array", "not": {"maxItems": 1}},
    "contains": {"type": "array", "contains": {"const": 1}},
    "oneOf": {"oneOf": [{"type": "array"}, {"type": ["array", "null"]}]},
    "lookahead": {"type": "array", "items": {"pattern": "^(?=a)"}},
    "format": {"type": "array", "items": {"format": "wizardry"}},
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_schemas_that_no_grammar_holds(answer, name, choice):
    """They are accepted, and held to as far as it goes; but where they are to be held strictly."""
    tool = function("f", x=HARD[name])
    tool["function"]["parameters"]["propertyNames"] = {"pattern": "^x$"}
    text = call("f", {"x": [1, 2]})
    (told,) = answer(text, tools=[tool], tool_choice=choice)["message"]["tool_calls"]
    assert json.loads(told["function"]["arguments"]) == {"x": [1, 2]}
    tool["function"]["strict"] = True
    with pytest.raises(ApiError) as error:
        answer(text, tools=[tool], tool_choice=choice)
    assert error.value.param == "tools[0].function.parameters"
    message = str(error.value)
    assert "strict" in message
    assert not [word for word in ("failed to compile", "%json", "lark", "\n") if word in message]


def test_a_call_cut_anywhere_has_a_part_of_its_arguments(answer, tokenizer):
    text = call("rate", {"stars": 4})
    size = len(tokenizer.encode(text))
    for most in range(1, size):
        choice = answer(text, tools=[RATE], tool_choice="required", max_tokens=most)
        told = choice["message"].get("tool_calls", [])
        assert all('{"stars": 4}'.startswith(one["function"]["arguments"]) for one in told)
        assert choice["finish_reason"] == "length"
        assert choice["message"]["content"] == ""
        said = answer(f"So: {text}", tools=[RATE], max_tokens=most)["message"]["content"]
        assert "So: ".startswith(said), said
    assert answer(text, tools=[RATE], max_tokens=size + 1)["finish_reason"] == "tool_calls"


def test_stop_phrases_are_for_what_is_said_and_not_for_calls(answer):
    text = "Of course. " + call("rate", {"stars": 4})
    for stop in ("tool", "<tool_call>", '"', "rate", "stars", "}", "\n", "e. <", "4"):
        choice = answer(text, tools=[RATE], stop=stop, logprobs=True)
        assert choice["message"]["content"] == "Of course. "
        assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"stars": 4}'
        assert choice["finish_reason"] == "tool_calls"
        spelled = b"".join(bytes(entry["bytes"]) for entry in choice["logprobs"]["content"])
        assert spelled.decode() == text
    choice = answer(text, tools=[RATE], stop="course")
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Of ", "stop")
    assert "tool_calls" not in choice["message"]
    choice = answer(call("rate", {"stars": 4}), tools=[RATE], stop="a", tool_choice="required")
    assert choice["finish_reason"] == "tool_calls"


def test_stop_phrases_are_looked_for_in_later_turns_too(answer):
    six = call("math:calculator", {"expression": "2*3"})
    choice = answer(f"Let me see. {six}", " It is 6.", tools=[CALCULATOR], stop=["math", " is"])
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Let me see.  It", "stop")


def test_what_looks_like_a_call_at_the_end_of_an_answer_is_text(answer):
    for text in ("a <", "a <tool", "a < b"):
        assert answer(text, tools=[RATE])["message"]["content"] == text


def test_one_sample_that_fails_leaves_the_others_alone(answer, tokenizer):
    """Only the second sample may not say what the script says."""

    class Failing(Scheduler):
        def _mask(self):
            super()._mask()
            for handle, row in self.rows.items():
                if row.answer.index in self.failing:
                    self.batch.set_mask(handle, np.zeros(tokenizer.vocab_size // 32, np.int32))

    for failing in ([1], [0, 1]):
        Failing.failing = failing
        choices = answer("Hello", n=3, whole=True, scheduler=Failing)["choices"]
        assert [choice["finish_reason"] for choice in choices] == [
            "error" if index in failing else "stop" for index in range(3)
        ]
        for choice in choices:
            failed = choice["index"] in failing
            assert choice["message"]["content"] == ("" if failed else "Hello")
            if failed:
                assert "no token can be drawn" in choice["error"]["message"]
    Failing.failing = [0, 1, 2]
    with pytest.raises(ApiError, match="no token can be drawn"):
        answer("Hello", n=3, scheduler=Failing)


def test_a_tool_that_fails_in_one_sample(answer, monkeypatch):
    results = iter([ValueError("out of order"), "6"])

    def calculate(expression):
        result = next(results)
        if isinstance(result, ValueError):
            raise result
        return result

    about = BUILT_IN["math:calculator"][0]
    monkeypatch.setitem(BUILT_IN, "math:calculator", (about, calculate))
    six = call("math:calculator", {"expression": "2*3"})
    failed, good = answer(six, "It is 6.", tools=[CALCULATOR], n=2, whole=True)["choices"]
    assert (good["message"]["content"], good["finish_reason"]) == ("It is 6.", "stop")
    assert failed["finish_reason"] == "error"
    assert "out of order" in failed["error"]["message"]


def test_a_result_stands_at_its_place_in_the_history(tokenizer, grammars):
    """What the controls see in the second turn is what the model has read, in its order."""

    class Watched(Scheduler):
        def _draw(self):
            for handle, row in self.rows.items():
                history = self.batch.prompt(handle) + self.batch.output(handle)
                self.seen = history, list(row.cache), row.behind, list(row.answer.tokens)
            super()._draw()

    text = call("math:calculator", {"expression": "2*3"})
    scheduler = Watched(Scripted(tokenizer, [text, "It is 6."]))
    body = {"model": MODEL, "messages": user("Hi"), "seed": 1, "tools": [CALCULATOR]}
    scheduler.answer(protocol.read_chat(body, tokenizer, grammars))
    history, read, behind, generated = scheduler.seen
    assert history == read + generated[-1:] * behind
    said = tokenizer.decode(history)
    assert said.index("2*3") < said.index("tool\n6") < said.index("It is 6.")


def test_a_state_goes_on_in_the_next_turn(tokenizer, grammars):
    class Watched(Scheduler):
        states = ()

        def _draw(self):
            self.states += tuple(map(self.batch.state, self.batch.rows))
            super()._draw()

    text = call("math:calculator", {"expression": "2*3"})
    scheduler = Watched(Scripted(tokenizer, [text, "It is 6."]))
    fields = {"messages": user("Hi"), "seed": 1, "tools": [CALCULATOR], "mirostat_tau": 3.0}
    scheduler.answer(protocol.read_chat(fields, tokenizer, grammars))
    mu = [state.get("mirostat_mu") for state in scheduler.states]
    assert mu[0] is None
    assert None not in mu[1:]
    assert len(set(mu[1:])) == len(mu) - 1


def test_prompts_take_turns(tokenizer, grammars):
    """A short prompt beside long ones has its first token after as many steps as there are."""
    scheduler, begun = Scheduler(Scripted(tokenizer, ["Hello"])), {}
    for name, content in (("long", "word " * 1500), ("longer", "word " * 1900), ("short", "Hi")):
        request = protocol.read_chat({"messages": user(content)}, tokenizer, grammars)
        scheduler.submit(request, lambda entry, name=name: begun.setdefault(name, steps[-1]))
    steps = [0]
    while steps[-1] < 40:
        steps.append(steps[-1] + 1)
        scheduler.step()
    assert begun["short"] == 3
    assert begun["short"] < begun["long"] < begun["longer"] < 40


def test_several_prompts_of_a_completion(tokenizer, grammars):
    """Each has its own answers, one after the other, with the prompt before them for `echo`."""
    scheduler = Scheduler(Scripted(tokenizer, ["Hello"]))
    body = {"prompt": ["Hi" + ANSWER, ANSWER], "n": 2, "echo": True, "logprobs": 1, "seed": 1}
    request = protocol.read_completion(body, tokenizer, grammars)
    whole = scheduler.answer(request).response()
    assert whole["object"] == "text_completion"
    assert whole["usage"]["prompt_tokens"] == sum(map(len, request.prompts))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    for choice in whole["choices"]:
        before = body["prompt"][choice["index"] // 2]
        assert choice["text"] == before + "Hello"
        assert choice["logprobs"]["tokens"] == ["Hello"]
        assert choice["logprobs"]["text_offset"] == [len(before)]
        assert choice["tokens"] == [*tokenizer.encode("Hello"), tokenizer.eos[0]]


def test_a_tag_is_text_where_there_are_no_tools(answer):
    assert answer(FAIL, tools=[CALCULATOR], tool_choice="none")["message"]["content"] == FAIL


def test_characters_of_several_tokens_and_stop_phrases_in_them(answer, tokenizer):
    text = "Naïve café 🐋🗼 日本語 done"
    assert len(tokenizer.encode("🐋")) > 1
    assert answer(text)["message"]["content"] == text
    choice = answer(text, stop=["🗼 日"], logprobs=True)
    assert choice["message"]["content"] == "Naïve café 🐋"
    spelled = b"".join(bytes(entry["bytes"]) for entry in choice["logprobs"]["content"])
    assert spelled.startswith("Naïve café 🐋".encode())


def test_the_context_ends_an_answer_where_its_tools_result_has_no_room(answer, tokenizer):
    """Room for the call, its end and a few tokens more; not for the next turn."""
    text = call("math:calculator", {"expression": "2*3"})
    size = len(tokenizer.encode(text))
    for spare in (1, 5, 9):
        fields = {"tools": [CALCULATOR], "messages": user("")}
        prompt = answer("Hi", **fields, whole=True)["usage"]["prompt_tokens"]
        fields["messages"] = user(" word" * (CONTEXT - prompt - size - spare))
        choice = answer(text, "It is 6.", **fields)
        assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")


def test_the_context_ends_an_answer_whose_tools_fill_it(answer):
    long = call("math:calculator", {"expression": "1" * 60})
    choice = answer(*[long] * 40, "done", tools=[CALCULATOR])
    assert choice["finish_reason"] == "length"


def test_a_step_that_fails_ends_its_requests_and_no_other(tokenizer, grammars):
    """The model breaks once: who was running is told, who comes later gets an answer."""

    class Breaking(Scripted):
        broken = False

        def step(self, caches, tokens):
            if not self.broken:
                self.broken = True
                raise RuntimeError("a broken model")
            return super().step(caches, tokens)

    scheduler = Scheduler(Breaking(tokenizer, ["Hello"]))
    threading.Thread(target=scheduler.run, daemon=True).start()
    body = {"model": MODEL, "messages": user("Hi"), "seed": 1}
    request = protocol.read_chat(body, tokenizer, grammars)
    heard = queue.SimpleQueue()
    scheduler.submit(request, heard.put)
    assert heard.get(timeout=60)["delta"]["role"] == "assistant"
    while not isinstance(told := heard.get(timeout=60), ApiError):
        assert told["delta"]["content"] == "Hello"
    assert told.status == 500
    assert "goes on with other requests" in str(told)
    scheduler.submit(request, heard.put)
    assert "".join(told["delta"]["content"] for told in iter(heard.get, None)) == "Hello"


def test_logits_that_are_not_numbers_end_one_request(tokenizer, grammars):
    class Sick(Scripted):
        def forward(self, caches, tokens):
            logits = super().forward(caches, tokens)
            for row, cache in zip(logits, caches, strict=True):
                if self.tokenizer.encode("ill")[0] in cache:
                    row[5] = np.nan
            return logits

    scheduler = Scheduler(Sick(tokenizer, ["Hello"]))
    heard = {}
    for content in ("Hi", "ill", "Ho"):
        body = {"model": MODEL, "messages": user(content), "seed": 1}
        request = protocol.read_chat(body, tokenizer, grammars)
        scheduler.submit(request, heard.setdefault(content, []).append)
    for _ in range(20):
        scheduler.step()
    assert isinstance(heard["ill"][-1], ApiError)
    assert "nan" in str(heard["ill"][-1])
    for content in ("Hi", "Ho"):
        assert "".join(entry["delta"]["content"] for entry in heard[content][:-1]) == "Hello"
