"""The older API: a prompt of text or tokens instead of messages."""

import pytest
from asking import FRANCE, MODEL, OFF, ask

CHAT = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHAT += f"<|im_end|>\n<|im_start|>user\n{FRANCE}<|im_end|>\n<|im_start|>assistant\n"
PARIS = "The capital of France is"


def complete(client, prompt=PARIS, **fields):
    body = {"max_tokens": 4, "temperature": 0} | fields
    return client.completions.create(model=MODEL, prompt=prompt, extra_body=body)


def test_prompt(client, tokenizer):
    """The prompt of a chat as text has the chat's answer; tokens are what the text is."""
    chat = ask(client, temperature=0)
    same = complete(client, CHAT, max_tokens=16)
    assert same.choices[0].text == chat.choices[0].message.content
    assert same.choices[0].finish_reason == "stop"
    assert same.usage == chat.usage
    assert (same.object, same.model) == ("text_completion", MODEL)
    assert same.id.startswith("cmpl-")
    read = complete(client, tokenizer.encode(CHAT), max_tokens=16).choices[0]
    assert (read.text, read.tokens) == (same.choices[0].text, same.choices[0].tokens)
    both = complete(client, [CHAT, PARIS], n=2, max_tokens=5)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text == "The capital of France is"
    assert both.choices[2].text == complete(client, max_tokens=5).choices[0].text
    tokens = [tokenizer.encode(CHAT), tokenizer.encode(PARIS)]
    listed = [choice.text for choice in complete(client, tokens, n=2, max_tokens=5).choices]
    assert listed == [choice.text for choice in both.choices]
    assert complete(client, "", max_tokens=1).usage.prompt_tokens == 1


def test_tokens(client, tokenizer):
    """Another name for a prompt of tokens; those of each answer come back."""
    body = {"tokens": tokenizer.encode(PARIS), "max_tokens": 4, "temperature": 0}
    answer = client.post("/completions", body=body, cast_to=object)
    (choice,) = answer["choices"]
    assert choice["text"] == complete(client).choices[0].text
    assert tokenizer.decode(choice["tokens"]) == choice["text"]


def test_max_tokens_of_a_completion(client):
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", seed=1)
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_echo(client):
    for prompt in (PARIS, [PARIS, "One, two"]):
        plain, echo = complete(client, prompt), complete(client, prompt, echo=True, logprobs=0)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        for before, choice, echoed in zip(prompts, plain.choices, echo.choices, strict=True):
            assert echoed.text == before + choice.text
            assert echoed.logprobs.text_offset[0] == len(before)


def test_logprobs_of_a_completion(client):
    answer = complete(client, logprobs=2, stop="Paris and").choices[0]
    logprobs = answer.logprobs
    assert "".join(logprobs.tokens) == answer.text
    for token, start in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert answer.text[start : start + len(token)] == token
    for token, logprob, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert len(top) == 2
        assert top[token] == logprob == max(top.values())
    assert complete(client).choices[0].logprobs is None


def test_best_of(client):
    assert len(complete(client, n=2, best_of=2).choices) == 2


def test_what_is_off_changes_nothing(client):
    assert complete(client, **OFF).choices[0].text == complete(client).choices[0].text


def test_bad_word_tokens(client, tokenizer):
    (paris,) = tokenizer.encode(" Paris")
    for field, value in (("bad_word_tokens", [{"tokens": [paris]}]), ("bad_words", ["Paris"])):
        assert "Paris" not in complete(client, **{field: value}).choices[0].text
    both = {"bad_words": ["Paris"], "bad_word_tokens": [tokenizer.encode(" the")]}
    said = complete(client, max_tokens=20, **both).choices[0].text
    assert "Paris" not in said
    assert " the" not in said


def test_max_total_tokens_of_a_completion(client):
    size = complete(client).usage.prompt_tokens
    body = {"prompt": PARIS, "max_total_tokens": size + 20, "min_total_tokens": size + 20}
    answer = client.post("/completions", body=body, cast_to=object)
    assert answer["usage"]["completion_tokens"] == 20  # where 16 are the default


@pytest.mark.parametrize(
    "fields",
    [{}, {"n": 2, "logprobs": 1, "seed": 3, "temperature": 1}, {"echo": True, "logprobs": 1}],
)
def test_a_completion_in_a_stream(client, fields):
    whole = complete(client, **fields)
    options = {"include_usage": True}
    chunks = (
        list(complete(client, stream=True, stream_options=options, **fields))
        if False
        else list(
            client.completions.create(
                model=MODEL,
                prompt=PARIS,
                stream=True,
                stream_options=options,
                extra_body={"max_tokens": 4, "temperature": 0} | fields,
            )
        )
    )
    assert chunks[-1].usage == whole.usage
    for choice in whole.choices:
        parts = [x for chunk in chunks for x in chunk.choices if x.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            listed = [x for part in parts if part.logprobs for x in getattr(part.logprobs, name)]
            assert listed == (getattr(choice.logprobs, name) if choice.logprobs else [])
