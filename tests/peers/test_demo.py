"""The demo's engine: its model against transformers on the same GGUF file, and its loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
sys.path.insert(0, str(EXAMPLES))

from engine import answer
from smollm2 import Model, model_path

pytestmark = pytest.mark.filterwarnings("default")  # what the peers warn of is theirs

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TEXTS = [
    "Hello world",
    "  two spaces,\tand a tab\n\nlines",
    "1234567890 and 3.14",
    "naïve café — “quotes”",
    "def f(x):\n    return x**2  # comment",
    "日本語のテキスト",
    "emoji 🐋🗼 and ZWJ 👩‍🚀",
    "I'll we've DON'T",
    "<|im_start|>user\nhi<|im_end|>",
    "ALLCAPS mixedCase snake_case",
    "",
    " ",
    "a" * 50,
    "...!?;:",
]


@pytest.fixture(scope="module")
def model():
    return Model.load()


@pytest.fixture(scope="module")
def peer():
    path = model_path()
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def peer_tokenizer():
    path = model_path()
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_equal_those_of_transformers(model, peer_tokenizer, text):
    ours = model.tokenizer.encode(text)
    assert ours == peer_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert model.tokenizer.decode(ours) == text.replace("<|im_start|>", "").replace(
        "<|im_end|>", ""
    )


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_the_tokens_are_those_of_the_text(model, text):
    tokenizer = model.tokenizer
    tokens = tokenizer.encode(text)
    ours = b"".join(tokenizer.token_bytes(token) for token in tokens)
    assert ours.decode() == tokenizer.decode(tokens)


def test_the_bytes_of_any_token_are_its_text(model):
    tokenizer = model.tokenizer
    for token in range(tokenizer.vocab_size):
        ours = tokenizer.token_bytes(token).decode("utf-8", "replace")
        assert ours == tokenizer.decode([token])


def test_logits_equal_those_of_transformers(model, peer):
    """Measured: at most 1e-4 apart, in logits of a spread of about 30."""
    tokens = model.tokenizer.chat(QUESTION)
    with torch.no_grad():
        theirs = peer(torch.tensor([tokens])).logits[0].numpy()
    for end in (1, 10, 25, len(tokens)):
        ours, _ = model.prefill(tokens[:end])
        np.testing.assert_allclose(ours, theirs[end - 1], atol=1e-3)
        assert ours.argmax() == theirs[end - 1].argmax()


def test_stepping_equals_prefilling_and_rows_do_not_mix(model):
    tokens = model.tokenizer.chat(QUESTION)
    whole, _ = model.prefill(tokens)
    _, cache = model.prefill(tokens[:-2])
    forks = [cache.fork() for _ in range(3)]
    model.step(forks, [tokens[-2], 500, tokens[-2]])
    logits = model.step([forks[0], forks[2]], [tokens[-1]] * 2)
    np.testing.assert_allclose(logits, [whole, whole], atol=1e-3)


def test_greedy_answers_the_question_in_twenty_tokens(model):
    result = answer(model, {"messages": QUESTION, "temperature": 0, "max_tokens": 20})
    (choice,) = result.choices
    assert choice.text == "The capital of France is Paris."
    assert choice.finish_reason == "stop"


def test_the_demos_request_is_repeated_exactly(model):
    body = json.loads((EXAMPLES / "chat.json").read_text()) | {"max_tokens": 20}
    first, again = answer(model, body), answer(model, body)
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in again.choices]
    assert len(set(texts)) == body["n"]
    assert all(len(choice.tokens) == 20 for choice in first.choices)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "the request body must be a JSON object"),
        ('{"top-p": 1}', "did you mean 'top_p'?"),
        ('{"messages": []}', "messages must be"),
        ('{"messages": [{"role": "user"}]}', "a message must have role and content"),
        ('{"messages": [{"role": "user", "content": "x"}], "min_p": 1.5}', "min_p must be in"),
    ],
)
def test_a_bad_request_is_one_line_and_no_model_is_loaded(tmp_path, body, reason):
    path = tmp_path / "body.json"
    path.write_text(body)
    words = [sys.executable, EXAMPLES / "demo.py", "--request", path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{path}: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_stop_phrases_end_the_text_before_them(model):
    body = {"messages": QUESTION, "temperature": 0, "stop": ["France", "Paris"]}
    (choice,) = answer(model, body).choices
    assert (choice.text, choice.finish_reason) == ("The capital of ", "stop")
