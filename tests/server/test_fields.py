"""What each field of the body does."""

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Literal

import jsonschema
import openai
import pydantic
import pytest
from asking import ANSWER, FRANCE, MODEL, OFF, TOKEN, ask, say, stream, user
from numpy import exp

WHALES = "Tell me about whales."
REPEAT = "Repeat the word whale many times: whale whale whale"
GREEDY = {"temperature": 0}


def words(text):
    return text.lower().replace(",", " ").replace(".", " ").split()


def test_every_field_has_a_test():
    from server.schema import CHAT, COMPLETION

    names = ("test_fields.py", "test_tools.py", "test_completions.py")
    files = [Path(__file__).with_name(name) for name in names]
    tested = {
        name for file in files for name in re.findall(r"^def test_(\w+)", file.read_text(), re.M)
    }
    for body in (CHAT, COMPLETION):
        assert body["properties"].keys() <= tested | WITHOUT_EFFECT.keys() | OFF.keys()


#: What clients send that changes no answer.
WITHOUT_EFFECT = {
    "user": "me",
    "metadata": {"run": "7"},
    "store": True,
    "service_tier": "auto",
    "safety_identifier": "me",
    "prompt_cache_key": "x",
    "reasoning_effort": "low",
    "parse_reasoning": True,
    "include_reasoning": False,
}


def test_what_changes_no_answer(client):
    assert say(client, **WITHOUT_EFFECT, **GREEDY) == ANSWER
    assert say(client, **dict.fromkeys(WITHOUT_EFFECT), **GREEDY) == ANSWER


def test_the_description_has_every_field_of_the_library():
    from server.schema import SAMPLING

    import logitchain as lc

    assert SAMPLING.keys() == lc.FIELDS.keys()


# ---- what is said to the model


def test_messages(client):
    assert say(client, **GREEDY) == ANSWER
    history = [*user(FRANCE), {"role": "assistant", "content": ANSWER}, *user("And of Italy?")]
    assert "Rome" in say(client, history, **GREEDY)
    parts = [
        {"type": "text", "text": "What is the capital "},
        {"type": "text", "text": "of France?"},
    ]
    assert say(client, user(parts), **GREEDY) == ANSWER
    system = [{"role": "system", "content": "You are a pirate."}, *user(WHALES)]
    pirate = say(client, system, **GREEDY)
    assert pirate != say(client, WHALES, **GREEDY)
    system[0]["role"] = "developer"
    assert say(client, system, **GREEDY) == pirate


def test_a_message_may_be_sent_back_as_it_came(client):
    """With all that clients add to it or leave in it."""
    answer = ask(client, **GREEDY).choices[0].message
    sent = {"annotations": [], "audio": None, "function_call": None, "reasoning_content": None}
    for message in (
        answer.model_dump(),
        {**answer.model_dump(exclude_none=True), **sent, "name": "me", "tool_calls": None},
        {"role": "assistant", "content": [{"type": "text", "text": answer.content}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": answer.content}]},
    ):
        history = [*user(FRANCE), message, *user("And of Italy?")]
        assert "Rome" in say(client, history, **GREEDY)


def test_model(client):
    assert ask(client, max_tokens=1).model == MODEL
    unnamed = {"messages": user(FRANCE), "max_tokens": 1, "model": None}
    assert client.post("/chat/completions", body=unnamed, cast_to=object)["model"] == MODEL
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="the model must be"):
        client.models.retrieve("another/model")
    assert [model.id for model in client.models.list()] == [MODEL]
    with pytest.raises(openai.NotFoundError, match="model must be"):
        client.chat.completions.create(model="another", messages=user("Hi"))


def test_chat_template_kwargs(client, tokenizer):
    pirate = "You are a pirate."
    options = {"system_prompt": pirate}
    given = ask(client, WHALES, chat_template_kwargs=options, **GREEDY)
    said = ask(client, [{"role": "system", "content": pirate}, *user(WHALES)], **GREEDY)
    assert given.choices[0].message.content == said.choices[0].message.content
    assert given.usage.prompt_tokens == said.usage.prompt_tokens

    begun = len(tokenizer.encode("<|im_start|>assistant\n"))
    options = {"add_generation_prompt": False}
    usage = ask(client, chat_template_kwargs=options, max_tokens=1).usage
    assert usage.prompt_tokens == ask(client, max_tokens=1).usage.prompt_tokens - begun

    begun = [*user(FRANCE), {"role": "assistant", "content": "The capital of France is"}]
    for thinking in (True, False):
        options = {"enable_thinking": thinking}
        assert say(client, chat_template_kwargs=options, **GREEDY) == ANSWER

    options = {"continue_final_message": True}
    assert say(client, begun, chat_template_kwargs=options, **GREEDY) == " Paris."


# ---- how long it answers


def test_max_tokens(client):
    answer = ask(client, WHALES, max_tokens=5)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (5, "length")
    answer = ask(client, max_tokens=None, **GREEDY)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (ANSWER, "stop")
    long = ask(client, "word " * 2015, max_tokens=100)
    assert long.usage.total_tokens == 2048
    assert long.choices[0].finish_reason == "length"


def test_max_completion_tokens(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=user(WHALES), max_completion_tokens=3
    )
    assert answer.usage.completion_tokens == 3


def test_min_tokens(client):
    assert ask(client, **GREEDY).usage.completion_tokens < 12
    answer = ask(client, min_tokens=12, max_tokens=14, **GREEDY)
    assert answer.usage.completion_tokens > 12
    assert answer.choices[0].message.content.startswith(ANSWER)


def test_eos_token(client, tokenizer):
    (france,) = tokenizer.encode(" France")
    answer = ask(client, eos_token=[france], **GREEDY)
    assert answer.choices[0].message.content == "The capital of"
    assert answer.choices[0].finish_reason == "stop"
    assert ask(client, eos_token=[], **GREEDY).choices[0].message.content == ANSWER


def test_stop(client):
    for phrase in (" of", "tal of Fr", ["xyz", "rance is P"]):
        answer = ask(client, stop=phrase, **GREEDY).choices[0]
        end = phrase if isinstance(phrase, str) else phrase[-1]
        assert answer.message.content == ANSWER[: ANSWER.index(end)]
        assert answer.finish_reason == "stop"


# ---- which tokens it picks


def left(server, **control):
    """How many tokens are left at each position: on this server only these are listed."""
    fields = {"logprobs": True, "top_logprobs": 20, "temperature": 2, "max_tokens": 4, "seed": 5}
    answer = ask(server.client(TOKEN), WHALES, **fields, **control)
    return [len(entry.top_logprobs) for entry in answer.choices[0].logprobs.content]


def test_forced_output_tokens(client, tokenizer):
    forced = tokenizer.encode("Berlin, and")
    assert say(client, forced_output_tokens=forced, max_tokens=9, **GREEDY).startswith(
        "Berlin, and"
    )


#: The answer is all reasoning then, up to a mark that is no part of it.
def reasoned(client, tokenizer, **fields):
    end = {"reasoning_end": tokenizer.encode("!")}
    return say(client, **(GREEDY | end | {"max_tokens": 9} | fields))


def test_reasoning_budget(client, tokenizer):
    assert reasoned(client, tokenizer, reasoning_budget=3).startswith("The capital of!")
    assert reasoned(client, tokenizer, reasoning_budget=0).startswith("!")


def test_reasoning_start(client, tokenizer):
    fields = {"reasoning_start": tokenizer.encode("The"), "reasoning_budget": 1}
    assert reasoned(client, tokenizer, **fields).startswith("The capital!")
    fields["reasoning_start"] = tokenizer.encode(" capital")  # the prompt has it, too
    assert reasoned(client, tokenizer, **fields).startswith("The!")


def test_reasoning_end(client, tokenizer):
    fields = {"reasoning_end": tokenizer.encode("! So"), "reasoning_budget": 2}
    assert reasoned(client, tokenizer, **fields).startswith("The capital! So")


def test_reasoning_message(client, tokenizer):
    fields = {"reasoning_message": tokenizer.encode(" is known"), "reasoning_budget": 2}
    assert reasoned(client, tokenizer, **fields).startswith("The capital is known!")


def test_min_reasoning(client, tokenizer):
    """The token that ends the reasoning cannot come."""
    end = {"reasoning_end": tokenizer.encode(" Paris")}
    assert "Paris" in reasoned(client, tokenizer, **end)
    assert "Paris" not in reasoned(client, tokenizer, min_reasoning=9, **end)


def test_reasoning_grace(client, tokenizer):
    assert reasoned(client, tokenizer, reasoning_budget=1, reasoning_grace=2).startswith(
        "The capital of!"
    )


def test_reasoning_line_ends(client, tokenizer):
    fields = {"reasoning_budget": 1, "reasoning_grace": 9}
    fields["reasoning_line_ends"] = tokenizer.encode(" of France")
    assert reasoned(client, tokenizer, **fields).startswith("The capital of!")


def test_reasoning_as_text(client, tokenizer):
    """Texts are split by the server, which knows which tokens end a line, too."""
    fields = {"reasoning_end": "!", "reasoning_message": " is known", "reasoning_budget": 2}
    assert say(client, **fields, **GREEDY).startswith("The capital is known!")
    assert reasoned(client, tokenizer, **fields) == say(client, **fields, **GREEDY, max_tokens=9)
    fields |= {"forced_output_tokens": "One two three\n", "max_tokens": 9, **GREEDY}
    assert say(client, reasoning_grace=9, **fields).startswith("One two three\n is known!")


def test_a_budget_alone_is_of_the_marks_of_the_template(client):
    begun = {"forced_output_tokens": "<think> So,", "max_tokens": 12, **GREEDY}
    assert "</think>" in say(client, reasoning_budget=3, **begun)
    assert say(client, reasoning_budget=0, **GREEDY) == ANSWER


def test_reasoning_per_block(client, tokenizer):
    """Two blocks of a token each: their sum is the budget, neither alone is."""
    start, end, word = (tokenizer.encode(text)[0] for text in ("The", "!", " end"))
    fields = {"reasoning_start": start, "reasoning_end": end, "reasoning_budget": 2}
    fields |= {"forced_output_tokens": [start, word, end, start, word], "max_tokens": 6}
    fields["logit_bias"] = {str(end): -100}  # it comes only where it is forced
    shared = reasoned(client, tokenizer, **fields)
    assert shared == "The end!The end!"
    assert reasoned(client, tokenizer, reasoning_per_block=True, **fields) != shared


def test_repetition_detection(client, tokenizer):
    fields = {"forced_output_tokens": tokenizer.encode(" one two") * 5, "max_tokens": 10}
    sizes = {"max_pattern_size": 4, "min_count": 3}
    stopped = ask(client, **fields, repetition_detection=sizes, **GREEDY).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (" one two" * 3, "repetition")
    assert ask(client, **fields, **GREEDY).choices[0].finish_reason == "length"
    ends = {"reasoning_end": tokenizer.encode("!"), "max_tokens": 9}
    ends |= {"forced_output_tokens": fields["forced_output_tokens"][:6]}
    ends["repetition_detection"] = sizes | {"action": "end_reasoning"}
    assert say(client, **ends, **GREEDY).startswith(" one two one two one two!")


def test_temperature(client):
    assert say(client, temperature=0, seed=1) == say(client, temperature=0, seed=2) == ANSWER
    assert len({say(client, temperature=2, seed=seed, max_tokens=6) for seed in range(3)}) == 3


def test_top_n_sigma(client, guarded):
    assert say(client, top_n_sigma=0.01, seed=1) == ANSWER
    assert max(left(guarded, top_n_sigma=1.0)) < 20


def test_typical_p(guarded):
    assert min(left(guarded, typical_p=0.01)) < 20


def test_top_a(client):
    assert say(client, top_a=1, seed=1) == ANSWER


def test_epsilon_cutoff(client):
    assert say(client, epsilon_cutoff=0.9, seed=1) == ANSWER


def test_eta_cutoff(client):
    assert say(client, eta_cutoff=0.99, seed=1) == ANSWER


def test_tfs(client):
    assert say(client, tfs=0.01, seed=1) == ANSWER


def test_p_less(client):
    assert say(client, p_less=True, seed=1) == ANSWER


def test_top_h(client):
    assert say(client, top_h=0.01, seed=1) == ANSWER


def test_smoothing_factor(client):
    assert say(client, smoothing_factor=9, seed=1) == ANSWER


def test_smoothing_curve(client):
    assert say(client, smoothing_factor=1, smoothing_curve=3, seed=1) == ANSWER


def test_dynatemp_range(client):
    nearly_0 = {"dynatemp_range": 1, "dynatemp_exponent": 60}
    assert say(client, temperature=1, **nearly_0, seed=1) == ANSWER


def test_dynatemp_exponent(client):
    always_2 = {"temperature": 1, "dynatemp_range": 1, "dynatemp_exponent": 0}
    assert say(client, **always_2, seed=4) == say(client, temperature=2, seed=4)


def test_mirostat_tau(client):
    assert say(client, mirostat_tau=1e-6, seed=1) == ANSWER


def test_mirostat_eta(guarded):
    """The less is a surprise, the more tokens are left the next time."""
    counts = [left(guarded, mirostat_tau=1.5, mirostat_eta=eta) for eta in (1e-9, 1.0)]
    assert counts[0][0] == counts[1][0]
    assert counts[0] != counts[1]


def test_adaptive_target(client):
    """A low target avoids the likeliest tokens."""
    said = say(client, adaptive_target=0.0, min_p=0.01, seed=1, max_tokens=8)
    assert not ANSWER.startswith(said[:20])


def test_adaptive_decay(client):
    each = [
        say(client, adaptive_target=0.4, adaptive_decay=x, min_p=0.01, seed=3) for x in (0, 0.99)
    ]
    assert each[0] != each[1]


def test_top_k(client, guarded):
    assert say(client, top_k=1, seed=1) == ANSWER
    assert left(guarded) == [20] * 4
    assert left(guarded, top_k=2) == [2] * 4


def test_top_p(client, guarded):
    assert say(client, top_p=1e-6, seed=1) == ANSWER
    assert max(left(guarded, top_p=0.2)) < 20


def test_min_p(client, guarded):
    assert say(client, min_p=1.0, seed=1) == ANSWER
    assert max(left(guarded, min_p=0.5)) < 20


def test_xtc_probability(client):
    """Of two tokens that qualify the likelier goes: what is left is the second, always."""
    fields = {
        "top_k": 2,
        "xtc_threshold": 1e-6,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 2,
    }
    for seed in range(3):
        (entry,) = ask(client, xtc_probability=1, seed=seed, **fields).choices[0].logprobs.content
        assert entry.token == entry.top_logprobs[1].token
    first = {say(client, xtc_probability=0, seed=seed, top_p=0.1, **fields) for seed in range(3)}
    assert first == {entry.top_logprobs[0].token}


def test_xtc_threshold(client):
    fields = {"xtc_probability": 1, "temperature": 1, "top_k": 2, "max_tokens": 1, "seed": 3}
    assert say(client, xtc_threshold=1, **fields) == say(client, top_k=2, max_tokens=1, seed=3)
    assert say(client, xtc_threshold=1e-6, **fields) not in ("The", "")


def test_repetition_penalty(client):
    free = words(say(client, REPEAT, max_tokens=20, **GREEDY))
    held = words(say(client, REPEAT, max_tokens=20, repetition_penalty=2.0, **GREEDY))
    assert free.count("whale") > 3
    assert held.count("whale") <= 1


def variety(client, **fields):
    said = words(say(client, REPEAT, max_tokens=20, **GREEDY, **fields))
    return len(set(said))


def test_frequency_penalty(client):
    assert variety(client, frequency_penalty=2) > variety(client)


def test_presence_penalty(client):
    assert variety(client, presence_penalty=2) > variety(client)


def test_penalty_window(client):
    assert variety(client, frequency_penalty=2, penalty_window=0) == variety(client)


def test_penalty_exempt(client, tokenizer):
    fields = {**GREEDY, "max_tokens": 20}
    free = say(client, REPEAT, **fields)
    held = {"repetition_penalty": 2.0, "penalty_exempt": tokenizer.encode(free)}
    assert say(client, REPEAT, **fields, **held).startswith(free)  # the end of the text is held


def test_watermark(client):
    """With a key and no deduplication the seed no longer matters."""
    mark = {"scheme": "gumbel", "key": 42, "deduplicate": False}
    first, second = (say(client, WHALES, seed=seed) for seed in (1, 2))
    marked = [say(client, WHALES, seed=seed, watermark=mark) for seed in (1, 2)]
    assert first != second
    assert marked[0] == marked[1]


def test_dry_multiplier(client):
    assert variety(client, dry_multiplier=5) > variety(client)


def test_dry_base(client):
    """Of a penalty of almost nothing only the growth shows."""
    small = {"dry_multiplier": 1e-3, "dry_allowed_length": 1}
    fields = {"max_tokens": 20, **GREEDY, **small}
    free = say(client, REPEAT, max_tokens=20, **GREEDY)
    assert say(client, REPEAT, dry_base=1, **fields) == free
    assert say(client, REPEAT, dry_base=1e6, **fields) != free


def test_dry_allowed_length(client):
    assert variety(client, dry_multiplier=5, dry_allowed_length=1000) == variety(client)


def test_dry_window(client):
    assert variety(client, dry_multiplier=5, dry_window=0) == variety(client)


def test_dry_sequence_breakers(client, tokenizer):
    free = say(client, REPEAT, max_tokens=20, **GREEDY)
    breakers = [[token] for token in {*tokenizer.encode(free)}]
    assert variety(client, dry_multiplier=5, dry_sequence_breakers=breakers) == variety(client)


def test_ngram_window(client):
    fields = {**GREEDY, "max_tokens": 20}
    free = say(client, REPEAT, **fields)
    assert say(client, REPEAT, no_repeat_ngram=2, ngram_window=0, **fields) == free


def test_ngram_exempt(client, tokenizer):
    fields = {**GREEDY, "max_tokens": 20}
    free = say(client, REPEAT, **fields)
    held = {"no_repeat_ngram": 2, "ngram_exempt": tokenizer.encode(free)}
    assert say(client, REPEAT, **fields, **held) == free


def test_logit_bias(client, tokenizer):
    (whale,) = tokenizer.encode(" whale")
    assert say(client, logit_bias={str(whale): 100}, max_tokens=3) == " whale" * 3
    (the,) = tokenizer.encode("The")
    assert not say(client, logit_bias={str(the): -100}, **GREEDY).startswith("The")


def test_allowed_tokens(client, tokenizer):
    ids = [tokenizer.encode(word)[0] for word in (" yes", " no")]
    said = say(client, allowed_tokens=ids, max_tokens=8, seed=1, temperature=5).split()
    assert len(said) == 8
    assert set(said) == {"yes", "no"}


def test_banned_tokens(client, tokenizer):
    (the,) = tokenizer.encode("The")
    assert not say(client, banned_tokens=[the], **GREEDY).startswith("The")


def test_bad_words(client, tokenizer):
    pair = tokenizer.encode(" France is")
    said = say(client, bad_words=[pair], **GREEDY)
    assert said.startswith("The capital of France")
    assert "France is" not in said


def test_bad_words_as_text(client):
    fields = {"bad_words": ["capital", [17]], "max_tokens": 30, **GREEDY}
    said = say(client, **fields)
    assert "capital" not in said
    assert said == say(client, banned_texts=["capital"], bad_words=[[17]], max_tokens=30, **GREEDY)
    with pytest.raises(openai.BadRequestError, match="bad_words must have at most 64 texts"):
        say(client, bad_words=["a"] * 65)


def test_no_repeat_ngram(client):
    said = words(say(client, REPEAT, no_repeat_ngram=2, max_tokens=20, **GREEDY))
    assert ("whale", "whale") not in pairwise(said)


# ---- what the answer holds


def test_n(client):
    answer = ask(client, WHALES, n=3, seed=1, max_tokens=6)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage.completion_tokens == 18


def test_seed(client):
    """The seeds that come back give each choice again, one by one and as a list."""
    fields = {"max_tokens": 8, "temperature": 1.5}
    answer = ask(client, WHALES, n=3, seed=7, **fields)
    seeds = [choice.seed for choice in answer.choices]
    texts = [choice.message.content for choice in answer.choices]
    assert seeds[0] == 7
    assert len(set(texts)) == 3
    assert [say(client, WHALES, seed=seed, **fields) for seed in seeds] == texts
    listed = ask(client, WHALES, n=3, seed=seeds[::-1], **fields).choices
    assert [choice.message.content for choice in listed] == texts[::-1]

    drawn = ask(client, WHALES, n=2, **fields).choices
    for choice in drawn:
        assert say(client, WHALES, seed=choice.seed, **fields) == choice.message.content


def test_logprobs(client):
    assert ask(client, max_tokens=2).choices[0].logprobs is None
    answer = ask(client, logprobs=True, **GREEDY).choices[0]
    entries = answer.logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == answer.message.content
    assert all(entry.logprob < 0 and entry.top_logprobs == [] for entry in entries)


def test_top_logprobs(client):
    answer = ask(client, logprobs=True, top_logprobs=3, temperature=2, seed=4).choices[0]
    for entry in answer.logprobs.content:
        best = [top.logprob for top in entry.top_logprobs]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert entry.logprob <= best[0]


def test_logprob_token_ids(client, tokenizer):
    ids = [tokenizer.encode(word)[0] for word in (" yes", " no")]
    fields = {"logprobs": True, "top_logprobs": 1000, "temperature": 2, "seed": 4, "max_tokens": 2}
    for entry in ask(client, logprob_token_ids=ids, **fields).choices[0].logprobs.content:
        assert [named["token"] for named in entry.named_logprobs] == [" yes", " no"]
        assert len(entry.top_logprobs) == 1000
        best = {top.token: top.logprob for top in entry.top_logprobs}
        for named in entry.named_logprobs:
            assert named["logprob"] <= entry.top_logprobs[0].logprob
            assert named["logprob"] == best.get(named["token"], named["logprob"])


def test_logprobs_of(client, guarded):
    """A request says of which row; where it does not, the server's option does."""
    fields = {"logprobs": True, "top_logprobs": 50, "top_k": 3, "temperature": 2, "max_tokens": 1}

    def listed(client, **of):
        (entry,) = ask(client, seed=1, **of, **fields).choices[0].logprobs.content
        return [top.logprob for top in entry.top_logprobs]

    private = guarded.client(TOKEN)
    raw, processed = listed(client, logprobs_of="raw"), listed(client, logprobs_of="processed")
    assert (len(raw), len(processed)) == (50, 3)
    assert abs(exp(processed).sum() - 1) < 1e-6
    assert listed(client) == raw == listed(private, logprobs_of="raw")
    assert listed(private) == processed
    hot = listed(client, logprobs_of="temperature")
    assert len(hot) == 50
    assert abs((hot[0] - hot[1]) - (raw[0] - raw[1]) / 2) < 1e-4


def test_logprobs_sum_to_one_over_a_mask_of_two_tokens(guarded, tokenizer):
    ids = [tokenizer.encode(word)[0] for word in (" yes", " no")]
    fields = {"allowed_tokens": ids, "logprobs": True, "top_logprobs": 5, "max_tokens": 6}
    answer = ask(guarded.client(TOKEN), "Is water wet?", seed=2, **fields).choices[0]
    assert len(answer.logprobs.content) == 6
    for entry in answer.logprobs.content:
        assert {top.token for top in entry.top_logprobs} == {" yes", " no"}
        assert abs(exp([top.logprob for top in entry.top_logprobs]).sum() - 1) < 1e-6


def test_return_kept(client, tokenizer):
    """The tokens that each was drawn from; in a stream the same, a token at a time."""
    fields = {"top_k": 3, "seed": 5, "temperature": 2, "max_tokens": 4, "logprobs_of": "processed"}
    fields |= {"logprobs": True, "return_kept": True}
    choice = ask(client, WHALES, **fields).choices[0]
    assert [kept["token_id"] for kept in choice.kept] == [
        x.token_id for x in choice.logprobs.content
    ]
    for kept, entry in zip(choice.kept, choice.logprobs.content, strict=True):
        assert kept["token_id"] == entry.token_id
        assert len(kept["token_ids"]) == 3
        assert kept["token_ids"] == sorted(kept["token_ids"])
        assert kept["truncated"] is False
        among = dict(zip(kept["token_ids"], kept["logprobs"], strict=True))
        assert among[entry.token_id] == entry.logprob
        assert abs(exp(kept["logprobs"]).sum() - 1) < 1e-6
        assert 0 < kept["kept_mass"] < 1
        assert kept["rank"] in (1, 2, 3)
        assert 0 < kept["entropy"] <= 1.0987
    chunks = stream(client, WHALES, **fields)
    parts = [x.choices[0].model_dump().get("kept") or [] for x in chunks]
    assert [kept for part in parts for kept in part] == choice.kept
    assert max(map(len, parts)) == 1

    two = ask(client, WHALES, **(fields | {"return_kept": 2})).choices[0]
    for best, kept in zip(two.kept, choice.kept, strict=True):
        order = sorted(zip(kept["logprobs"], kept["token_ids"], strict=True), reverse=True)
        assert best["token_ids"] == sorted(token for _, token in order[:2])
        assert best["truncated"] is True
    wide = ask(client, WHALES, n=16, max_tokens=2048, stop=["."], return_kept=True).choices[0]
    assert {len(kept["token_ids"]) for kept in wide.kept} == {32}
    assert "kept" not in ask(client, WHALES, max_tokens=1).choices[0].model_dump()


# ---- how it comes


def test_stream(client):
    chunks = stream(client, **GREEDY)
    assert len(chunks) > 5
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_stream_options(client):
    chunks = stream(client, stream_options={"include_usage": True}, **GREEDY)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client, **GREEDY).usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.usage is None and chunk.choices for chunk in stream(client, **GREEDY))
    options = {"include_obfuscation": True}
    chunks = stream(client, stream_options=options, **GREEDY)
    assert len({len(chunk.obfuscation) for chunk in chunks}) > 1
    options = {"include_obfuscation": False, "include_usage": None}
    plain = stream(client, stream_options=options, **GREEDY)
    assert not any(getattr(chunk, "obfuscation", None) for chunk in plain)


def test_when_and_by_what_it_was_answered(client):
    """`created` is when the answer was complete."""
    began = time.time()
    chunks = stream(client, WHALES, max_tokens=40, seed=1)
    whole = ask(client, WHALES, max_tokens=40, seed=1)
    created = [chunk.created for chunk in chunks]
    assert created == sorted(created)
    assert int(began) <= created[0]
    assert created[-1] <= whole.created <= time.time()
    assert whole.created - int(began) >= (time.time() - began) / 2
    assert whole.system_fingerprint.startswith("fp_")
    assert {chunk.system_fingerprint for chunk in chunks} == {whole.system_fingerprint}


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def json_format(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


def test_response_format(client):
    wild = {"temperature": 2, "seed": 1, "max_tokens": 60}
    for form in (json_format(PERSON, strict=True), json_format(PERSON | {"not": {"const": 1}})):
        for choice in ask(client, "Who?", response_format=form, **wild).choices:
            assert choice.finish_reason == "stop"
            jsonschema.validate(json.loads(choice.message.content), PERSON)
    form = {"type": "json_object"}
    (choice,) = ask(
        client, "Say {} as JSON", response_format=form, max_tokens=200, **GREEDY
    ).choices
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    assert choice.message.content.startswith("{")
    assert say(client, response_format={"type": "text"}, **GREEDY) == ANSWER


def test_parse_of_the_client(client):
    class Person(pydantic.BaseModel):
        name: Literal["Ann", "Bob"]
        age: Literal[1, 2]

    answer = client.chat.completions.parse(
        model=MODEL, messages=user("Who?"), response_format=Person, seed=1, max_tokens=60
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_stop_tokens(client, tokenizer):
    sequence = tokenizer.encode(" of France")
    answer = ask(client, stop_tokens=[sequence], **GREEDY).choices[0]
    assert (answer.message.content, answer.stop_reason) == ("The capital", sequence)
    assert ask(client, **GREEDY).choices[0].stop_reason in tokenizer.eos


def test_include_stop(client):
    answer = ask(client, stop=[" of"], include_stop=True, **GREEDY).choices[0]
    assert (answer.message.content, answer.stop_reason) == ("The capital of", " of")


def test_a_stop_phrase_that_is_a_special_token(client):
    answer = ask(client, stop=["<|im_end|>"], logprobs=True, **GREEDY).choices[0]
    assert answer.message.content == ANSWER
    assert all(entry.token_id >= 0 for entry in answer.logprobs.content)


def test_a_sequence_as_friendli_writes_it(client, tokenizer):
    sequence = tokenizer.encode(" of France")
    answer = ask(client, stop_tokens=[{"tokens": sequence}, 5], **GREEDY).choices[0]
    assert (answer.message.content, answer.stop_reason) == ("The capital", sequence)


def test_max_total_tokens(client):
    size = ask(client, **GREEDY).usage.prompt_tokens
    answer = ask(client, max_total_tokens=size + 2, **GREEDY)
    assert (answer.usage.total_tokens, answer.choices[0].finish_reason) == (size + 2, "length")
    with pytest.raises(openai.BadRequestError, match="max_total_tokens must be more than"):
        ask(client, max_total_tokens=size, **GREEDY)


def test_min_total_tokens(client):
    size = ask(client, **GREEDY).usage.prompt_tokens
    answer = ask(client, min_total_tokens=size + 12, max_tokens=14, **GREEDY)
    assert answer.usage.completion_tokens > 12


def test_stop_after_min_tokens(client):
    how = {"stop": [" of"], "min_tokens": 3, **GREEDY}
    assert ask(client, **how).choices[0].message.content == "The capital"
    answer = ask(client, stop_after_min_tokens=True, **how).choices[0]
    assert answer.message.content == ANSWER


def test_banned_texts(client):
    answer = ask(client, banned_texts=["capital"], max_tokens=30, **GREEDY).choices[0]
    assert "capital" not in answer.message.content
    with pytest.raises(openai.BadRequestError, match="banned_texts"):
        ask(client, banned_texts=[""], **GREEDY)
