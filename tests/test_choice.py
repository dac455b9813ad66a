"""A row's life against its definition, its log-probabilities, and the loop around it."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

import logitchain as lc
import strategies
from reference import cut

EOS = 0


@st.composite
def lives(draw, **fields):
    """(params, what each token of a vocabulary says, tokens that a row may draw)."""
    pieces, stop = draw(strategies.streams())
    vocabulary = [b"<eos>", *pieces]
    tokens = list(range(1, len(vocabulary)))
    tokens.insert(draw(st.integers(0, len(tokens))), EOS)
    params = lc.Params(
        stop=draw(st.sampled_from([stop, ()])),
        eos_token=draw(st.sampled_from([(), EOS, [EOS, 99]])),
        max_tokens=draw(st.sampled_from([None, *range(1, len(tokens) + 2)])),
        min_tokens=draw(st.integers(0, 4)),
        **fields,
    )
    return params, vocabulary, tokens


def decode(data, final=True):
    """Bytes as text; unless they are all, without the character that they break off in."""
    if final:
        return data.decode("utf-8", "replace")
    stream = lc.TextStream()
    return stream.feed(data)


def life(params, vocabulary, tokens):
    """The definition: (the tokens that are used, their text, the stop phrase, finish_reason)."""
    for k, token in enumerate(tokens, 1):
        ends = token in params.eos_token and k > params.min_tokens
        full = ends or k == params.max_tokens
        data = b"".join(vocabulary[token] for token in tokens[: k - ends])
        text, phrase = cut(decode(data, full), params.stop)
        if phrase or full:
            return tokens[:k], text, phrase, "stop" if phrase or ends else "length"
    return tokens, text, None, None


def logprob_of(token):
    return -float(token + 1)


def run(choice, tokens, each=lambda: None):
    """The pieces of a choice that takes tokens until it ends."""
    pieces = []
    for token in tokens:
        if choice.finish_reason:
            break
        pieces.append(choice.append(token, logprob_of(token)))
        each()
    return pieces


@given(lives())
def test_a_choice_lives_as_defined(given):
    params, vocabulary, tokens = given
    choice = lc.Choice(params, vocabulary.__getitem__, seed=3)
    pieces = run(choice, tokens)
    used, text, _, reason = life(*given)
    assert (choice.tokens, choice.finish_reason) == (used, reason)
    assert choice.text == "".join(pieces)
    if reason:
        assert choice.text == text
    assert choice.logprobs is None


@given(lives(), st.data())
def test_a_choice_that_was_preempted_goes_on_with_the_same_pieces(given, data):
    params, vocabulary, tokens = given
    whole = lc.Choice(params, vocabulary.__getitem__, seed=3)
    pieces = run(whole, tokens)
    output = data.draw(st.integers(0, len(whole.tokens)))
    resumed = lc.Choice(params, vocabulary.__getitem__, seed=3, output_tokens=whole.tokens[:output])
    assert resumed.text == "".join(pieces[:output])
    assert resumed.delta()["delta"] == {"content": ""}
    assert run(resumed, tokens[output:]) == pieces[output:]
    assert resumed.response() == whole.response()


def starts(vocabulary, tokens):
    """Of each token, which character its first byte is part of."""
    before = b""
    for token in tokens:
        piece = vocabulary[token]
        begun = len(decode(before + piece[:1])) - 1
        yield max(begun, len(decode(before, final=False)))
        before += piece


@given(lives(logprobs=True))
def test_there_is_an_entry_for_each_token_whose_text_has_begun_to_come_out(given):
    params, vocabulary, tokens = given
    choice = lc.Choice(params, vocabulary.__getitem__, seed=3)

    def check():
        ends = choice.tokens[-1] in params.eos_token and len(choice.tokens) > params.min_tokens
        output = choice.tokens[: len(choice.tokens) - ends]
        whole = choice.finish_reason and not life(*given)[2]
        begun = [
            token
            for token, start in zip(output, starts(vocabulary, output), strict=True)
            if whole or start < len(choice.text)
        ]
        entries = choice.logprobs["content"]
        assert [entry["logprob"] for entry in entries] == [logprob_of(token) for token in begun]
        assert [bytes(entry["bytes"]) for entry in entries] == [vocabulary[t] for t in begun]

    run(choice, tokens, check)


@given(lives(logprobs=True), st.data())
def test_the_chunks_of_a_stream_joined_are_the_response(given, data):
    params, vocabulary, tokens = given
    choice = lc.Choice(params, vocabulary.__getitem__, seed=3, index=2)
    chunks = []
    for token in tokens:
        if choice.finish_reason:
            break
        known = len(choice.logprobs["content"])
        if not choice.append(token, logprob_of(token)) and not choice.finish_reason:
            assert len(choice.logprobs["content"]) == known  # there is nothing to send
        elif data.draw(st.booleans()):
            chunks.append(choice.delta())
    chunks.append(choice.delta())
    response = choice.response()
    assert "".join(c["delta"]["content"] for c in chunks) == response["message"]["content"]
    assert [e for c in chunks for e in c["logprobs"]["content"]] == response["logprobs"]["content"]
    assert chunks[-1]["finish_reason"] == response["finish_reason"] == choice.finish_reason
    assert {(c["index"], c["seed"]) for c in [*chunks, response]} == {(2, 3)}
    assert choice.delta()["delta"] == {"content": ""}


WORDS = [b"<eos>", b"Hello", b" wor", b"ld", b"\xf0\x9f", b"\x90\x8b", b"", b"."]


def choice_of(output_tokens=(), **fields):
    params = lc.Params(eos_token=EOS, **fields)
    return lc.Choice(params, WORDS.__getitem__, seed=7, output_tokens=output_tokens)


def test_the_response():
    choice = choice_of(logprobs=True, top_logprobs=2, stop=".")
    choice.append(4, -0.5, ([4, 1, 3], [-0.5, -1.0, -3.0]))
    assert choice.logprobs == {"content": [], "refusal": None}
    choice.append(5, -0.25, ([6, -1, 5, -1], [-np.inf, -0.125, -0.25, -np.inf]))
    choice.append(7, -np.inf)
    assert choice.response() == {
        "index": 0,
        "message": {"role": "assistant", "content": "🐋", "refusal": None},
        "logprobs": {
            "content": [
                {
                    "token": "\ufffd",
                    "token_id": 4,
                    "logprob": -0.5,
                    "bytes": [0xF0, 0x9F],
                    "top_logprobs": [
                        {
                            "token": "\ufffd",
                            "token_id": 4,
                            "logprob": -0.5,
                            "bytes": [0xF0, 0x9F],
                        },
                        {
                            "token": "Hello",
                            "token_id": 1,
                            "logprob": -1.0,
                            "bytes": [*b"Hello"],
                        },
                    ],
                },
                {
                    "token": "\ufffd\ufffd",
                    "token_id": 5,
                    "logprob": -0.25,
                    "bytes": [0x90, 0x8B],
                    "top_logprobs": [
                        {
                            "token": "\ufffd\ufffd",
                            "token_id": 5,
                            "logprob": -0.25,
                            "bytes": [0x90, 0x8B],
                        }
                    ],
                },
            ],
            "refusal": None,
        },
        "finish_reason": "stop",
        "stop_reason": ".",
        "seed": 7,
    }


def test_named_tokens_have_their_log_probabilities_in_the_order_of_the_request():
    choice = choice_of(logprob_token_ids=[1, 4, 1])
    assert choice.logprobs == {"content": [], "refusal": None}
    choice.append(1, -0.5, ([], [], [-0.5, -np.inf, -0.5]))
    (entry,) = choice.logprobs["content"]
    hello = {"token": "Hello", "token_id": 1, "logprob": -0.5, "bytes": [*b"Hello"]}
    other = {"token": "\ufffd", "token_id": 4, "logprob": -9999.0, "bytes": [0xF0, 0x9F]}
    assert entry == hello | {"top_logprobs": [], "named_logprobs": [hello, other, hello]}
    older = choice.response(api="completions")["logprobs"]
    assert older["named_logprobs"] == [[-0.5, -9999.0, -0.5]]
    for top in (((), ()), ([], [], []), ([], [], [-0.5, -0.5])):
        with pytest.raises(ValueError, match=r"^top must be \(ids, logprobs, logprobs of the 3"):
            choice.append(1, -0.5, top)
    plain = choice_of(logprobs=True)
    plain.append(1, -0.5, ([], []))
    assert "named_logprobs" not in plain.logprobs["content"][0]
    assert "named_logprobs" not in plain.response(api="completions")["logprobs"]


def test_what_a_chain_tells_of_named_tokens_goes_in_as_it_is():
    batch = lc.Batch(9)
    params = lc.Params(n=2, seed=4, top_k=2, logprob_token_ids=[3, 0], logprobs_of="processed")
    logits, rows = np.arange(18, dtype=np.float32).reshape(2, 9) % 5, batch.add(params)
    sampled = lc.Chain().sample_with_logprobs(logits, batch)
    for r, row in enumerate(sampled.rows()):
        choice = lc.Choice(params, lambda token: b"a", seed=rows[r])
        choice.append(*row)
        (entry,) = choice.logprobs["content"]
        named = np.maximum(lc.logprobs(lc.top_k(logits[r], 2))[[3, 0]], -9999.0)
        assert [x["logprob"] for x in entry["named_logprobs"]] == named.tolist()


@pytest.mark.parametrize("logprob", [-np.inf, -1e30, np.float32(-np.inf), np.float32(-0.5), -1, 0])
def test_every_logprob_is_json(logprob):
    choice = choice_of(logprobs=True)
    choice.append(1, logprob)
    (entry,) = json.loads(json.dumps(choice.logprobs, allow_nan=False))["content"]
    assert entry["logprob"] == max(logprob, -9999.0)


def test_the_end_token_has_no_entry_and_needs_no_logprob():
    choice = choice_of(logprobs=True, min_tokens=1)
    choice.append(EOS, -1.0)
    choice.append(6, -2.0)
    choice.append(EOS)
    assert (choice.text, choice.finish_reason) == ("<eos>", "stop")
    assert [entry["logprob"] for entry in choice.logprobs["content"]] == [-1.0, -2.0]


def test_a_response_stays_as_it_was_told():
    choice = choice_of(logprobs=True)
    choice.append(1, -1.0)
    early = choice.response()
    choice.append(2, -2.0)
    assert len(early["logprobs"]["content"]) == 1


def test_top_logprobs_ask_for_logprobs_too_and_nothing_else_does():
    assert choice_of(top_logprobs=1).logprobs == {"content": [], "refusal": None}
    choice = choice_of()
    choice.append(1, float("nan"), None)
    assert choice.response()["logprobs"] is None


def test_how_many_tokens_an_entry_lists_is_the_callers_to_say():
    vocabulary = [b"%d" % token for token in range(99)]
    top = np.arange(99), -np.arange(99.0)
    for limit, listed in ((None, 2), (0, 0), (1, 1), (50, 50), (10**6, 99)):
        params = lc.Params(logprobs=True, top_logprobs=2)
        choice = lc.Choice(params, vocabulary.__getitem__, seed=7, top_logprobs=limit)
        choice.append(5, -1.0, top)
        (entry,) = choice.logprobs["content"]
        assert [x["token"] for x in entry["top_logprobs"]] == [str(i) for i in range(listed)]
    choice = lc.Choice(lc.Params(), vocabulary.__getitem__, seed=7, top_logprobs=30)
    choice.append(5, -1.0, top)
    assert len(choice.logprobs["content"][0]["top_logprobs"]) == 30
    for limit in (-1, 1.0, True):
        with pytest.raises((TypeError, ValueError), match=r"^top_logprobs must be "):
            lc.Choice(lc.Params(), vocabulary.__getitem__, seed=7, top_logprobs=limit)


def test_numbers_of_numpy_are_log_probabilities():
    for logprob in (bfloat16(-0.5), np.float16(-0.5), np.array(-0.5), np.array(-0.5, bfloat16)):
        choice = choice_of(logprobs=True, top_logprobs=1)
        choice.append(np.array(1), logprob, ([np.array(2)], [logprob]))
        (entry,) = choice.logprobs["content"]
        assert entry["logprob"] == entry["top_logprobs"][0]["logprob"] == -0.5
        assert type(entry["logprob"]) is float


def test_a_long_token_id_is_no_trouble():
    choice = lc.Choice(lc.Params(max_tokens=1), lambda token: b"x", seed=7)
    choice.append(1)
    with pytest.raises(ValueError, match=r"^token an integer of .* comes after the end"):
        choice.append(10**5000)


def test_what_a_chain_samples_goes_in_as_it_is():
    logits = np.random.default_rng(5).normal(0, 2, (3, len(WORDS))).astype(np.float32)
    logits[1, 2:] = -np.inf
    batch = lc.Batch(len(WORDS))
    rows = batch.add(lc.Params(n=2, seed=4, logprobs=True, top_logprobs=3, max_tokens=1))
    rows += batch.add(lc.Params(seed=4, logprobs=True, max_tokens=1))
    sampled = lc.Chain().sample_with_logprobs(logits, batch)
    drawn = dict(zip(rows, sampled.rows(), strict=True))
    for row, line in zip(rows, logits, strict=True):
        params, seed = batch.params(row), batch.seed(row)
        choice, again = (lc.Choice(params, WORDS.__getitem__, seed=seed) for _ in range(2))
        choice.append(*drawn[row])
        (token, _, _), n = drawn[row], params.top_logprobs
        again.append(token, lc.token_logprobs(line, token), lc.top_logprobs(line, n))
        assert choice.response() == again.response()
        (entry,) = choice.logprobs["content"]
        assert len(entry["top_logprobs"]) == min(n, np.isfinite(line).sum())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, r"token must be in [0, inf), not -1"),
        ((True,), TypeError, r"token must be an integer in [0, inf), not True"),
        ((1.0,), TypeError, r"token must be an integer in [0, inf), not 1.0"),
        (("1",), TypeError, r"token must be an integer in [0, inf), not '1'"),
        ((1,), TypeError, r"logprob must be a number in [-inf, inf), not None"),
        ((1, float("nan")), ValueError, r"logprob must be in [-inf, inf), not nan"),
        ((1, np.inf), ValueError, r"logprob must be in [-inf, inf), not inf"),
        ((1, True), TypeError, r"logprob must be a number in [-inf, inf), not True"),
        ((1, -1.0, 5), TypeError, r"top must be (ids, logprobs), not 5"),
        ((1, -1.0, ([1], [])), ValueError, r"top must be (ids, logprobs) of one length, not"),
        ((1, -1.0, ([], [], [])), ValueError, r"top must be (ids, logprobs) of one length, not"),
        ((1, -1.0, ([1], [np.nan])), ValueError, r"logprob must be in [-inf, inf), not nan"),
        ((1, -1.0, ([9], [-1.0])), TypeError, r"token_bytes(9) must be bytes, not 'no bytes'"),
        ((1, -1.0, (["1"], [-1.0])), TypeError, r"a token id in top must be an integer"),
        ((1, -1.0, ([1.0], [-1.0])), TypeError, r"a token id in top must be an integer"),
        ((1, -1.0, ([True], [-1.0])), TypeError, r"a token id in top must be an integer"),
        ((1, -1.0, ([1], ["x"])), TypeError, r"logprob must be a number in [-inf, inf), not 'x'"),
        ((9, -1.0), TypeError, r"token_bytes(9) must be bytes, not 'no bytes'"),
    ],
)
def test_an_error_names_the_argument_and_changes_nothing(arguments, error, message):
    vocabulary = dict(enumerate(WORDS)) | {9: "no bytes"}
    params = lc.Params(logprobs=True, top_logprobs=1)
    choice, again = (lc.Choice(params, vocabulary.__getitem__, seed=7) for _ in range(2))
    with pytest.raises(error) as raised:
        choice.append(*arguments)
    assert str(raised.value).startswith(message)
    assert run(choice, [1, 2]) == run(again, [1, 2])
    assert choice.response() == again.response()
    assert choice.tokens == [1, 2]


def test_nothing_is_generated_after_the_end():
    choice = choice_of(max_tokens=1)
    choice.append(1)
    with pytest.raises(ValueError, match=r"^token 2 comes after the end of the choice$"):
        choice.append(2)
    with pytest.raises(ValueError, match=r"^token 3 comes after the end of the choice$"):
        choice_of([1, EOS, 3])
    assert choice_of([1, EOS]).finish_reason == "stop"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"params": {}}, r"^params must be a Params, not {}$"),
        ({"token_bytes": WORDS}, r"^token_bytes must be callable, not \["),
        ({"seed": 1.0}, r"^seed must be an integer in \["),
        ({"seed": 2**64}, r"^seed must be in \["),
        ({"index": -1}, r"^index must be in \[0, inf\), not -1$"),
        ({"output_tokens": 3}, r"^output_tokens must be token ids, not 3$"),
        ({"output_tokens": [-1]}, r"^token must be in \[0, inf\), not -1$"),
    ],
)
def test_what_a_choice_cannot_be_made_of(changed, message):
    arguments = {"params": lc.Params(), "token_bytes": WORDS.__getitem__, "seed": 1} | changed
    with pytest.raises((TypeError, ValueError), match=message):
        lc.Choice(arguments.pop("params"), arguments.pop("token_bytes"), **arguments)


def test_a_choice_can_be_copied_and_pickled_with_its_log_probabilities():
    choice = choice_of(logprobs=True, stop="world")
    run(choice, [1, 2])
    for other in (copy.deepcopy(choice), pickle.loads(pickle.dumps(choice))):
        assert run(other, [6, EOS]) == ["", "wor"]
        assert len(other.logprobs["content"]) == 3
    assert len(choice.logprobs["content"]) == 2


def model(batch):
    """Logits that depend on the tokens of a row, not on its place."""
    output = [sum(batch.output(row)) + 31 * len(batch.output(row)) for row in batch.rows]
    return np.stack([np.random.default_rng(seed).normal(0, 2, len(WORDS)) for seed in output])


def join(batch, params, choice=None):
    """A request's rows and their choices; or the row of a choice that goes on."""
    if choice:
        params = dataclasses.replace(params, n=1, seed=choice.seed)
    tokens, first = (choice.tokens, choice.index) if choice else ((), 0)
    return {
        row: lc.Choice(
            params, WORDS.__getitem__, seed=batch.seed(row), index=index, output_tokens=tokens
        )
        for index, row in enumerate(batch.add(params, [1, 2], tokens), first)
    }


def answers(params, preempted_at=None):
    """The engine's loop; the rows may be preempted once, and go on."""
    batch, chain, ended, step = lc.Batch(len(WORDS)), lc.Chain(), [], 0
    choices = join(batch, params)
    while choices:
        if step == preempted_at:
            batch.remove(choices)
            others = [join(batch, params, choice) for choice in choices.values()]
            choices = {row: choice for other in others for row, choice in other.items()}
        tokens = chain.sample(model(batch), batch)
        batch.append(tokens)
        for row, token in zip(batch.rows, tokens, strict=True):
            choices[row].append(token)
        gone = [row for row in batch.rows if choices[row].finish_reason]
        batch.remove(gone)
        ended += [choices.pop(row).response() for row in gone]
        step += 1
    return sorted(ended, key=lambda response: response["index"])


PARAMS = lc.Params(n=6, seed=11, max_tokens=9, min_tokens=2, eos_token=EOS, stop=["Hello.", "ldH"])


@pytest.mark.parametrize("step", [0, 1, 2])
def test_rows_that_are_preempted_give_the_same_answers(step):
    assert answers(PARAMS, preempted_at=step) == answers(PARAMS)


def test_the_seed_of_a_choice_gives_it_alone():
    for response in answers(PARAMS):
        (alone,) = answers(dataclasses.replace(PARAMS, n=1, seed=response["seed"]))
        assert alone == response | {"index": 0}


@given(lives(), st.data())
def test_finish_lets_out_what_was_held_back(given, data):
    params, vocabulary, tokens = given
    choice = lc.Choice(dataclasses.replace(params, max_tokens=None), vocabulary.__getitem__, seed=3)
    pieces = run(choice, tokens[: data.draw(st.integers(0, len(tokens)))])
    if choice.finish_reason:
        with pytest.raises(ValueError, match="has ended with 'stop'"):
            choice.finish()
        return
    pieces.append(choice.finish("abort"))
    whole = b"".join(vocabulary[token] for token in choice.tokens)
    assert choice.text == "".join(pieces) == cut(decode(whole), params.stop)[0]
    assert choice.delta()["finish_reason"] == choice.response()["finish_reason"] == "abort"


def test_turns_follow_one_another():
    vocabulary = [b"", b"Let me see", b". ", b"It is 6", b"."]
    params = lc.Params(eos_token=0, stop="!", max_tokens=8, min_tokens=1, logprobs=True)
    choice = lc.Choice(params, vocabulary.__getitem__, seed=3)
    for token in (1, 2, 0):
        choice.append(token, -1.0)
    assert choice.finish_reason == "stop"
    choice.delta()
    choice.resume()
    assert choice.finish_reason is None
    copied = pickle.loads(pickle.dumps(choice))
    for one in (choice, copied):
        for token in (3, 4, 0):
            one.append(token, -2.0)
        assert one.text == "Let me see. It is 6."
        assert one.delta()["delta"] == {"content": "It is 6."}
        assert [x["logprob"] for x in one.logprobs["content"]] == [-1.0, -1.0, -2.0, -2.0]
        assert one.tokens == [1, 2, 0, 3, 4, 0]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [({}, [1]), ({"stop": "me"}, [1]), ({"max_tokens": 1}, [1]), ({"max_tokens": 2}, [1, 0])],
)
def test_only_an_end_token_with_room_after_it_begins_another_turn(fields, tokens):
    params = lc.Params(eos_token=0, **fields)
    choice = lc.Choice(params, [b"", b"Let me see"].__getitem__, seed=3)
    for token in tokens:
        choice.append(token)
    with pytest.raises(ValueError, match="only a choice that an end token has ended"):
        choice.resume()


def test_a_stream_of_ones_own_makes_the_text():
    class Upper(lc.TextStream):
        def feed(self, piece):
            return super().feed(piece.upper())

    choice = lc.Choice(
        lc.Params(eos_token=0), [b"", b"ab"].__getitem__, seed=3, stream=Upper("BAB")
    )
    assert [choice.append(1), choice.append(1), choice.finish_reason] == ["A", "", "stop"]


@given(lives(logprobs=True), st.data())
def test_the_older_api_has_the_same_choice_in_its_own_form(given, data):
    params, vocabulary, tokens = given
    chat, text = (lc.Choice(params, vocabulary.__getitem__, seed=3, index=2) for _ in range(2))
    chunks = []
    for token in tokens:
        if chat.finish_reason:
            break
        chat.append(token, logprob_of(token), ([token], [logprob_of(token)]))
        text.append(token, logprob_of(token), ([token], [logprob_of(token)]))
        if data.draw(st.booleans()):
            chunks.append(text.delta(api="completions"))
    chunks.append(text.delta(api="completions"))
    whole, other = text.response(api="completions"), chat.response()
    assert whole["text"] == other["message"]["content"] == "".join(x["text"] for x in chunks)
    for name in ("index", "finish_reason", "seed"):
        assert whole[name] == other[name] == chunks[-1][name]
    entries, logprobs = other["logprobs"]["content"], whole["logprobs"]
    assert logprobs["tokens"] == [entry["token"] for entry in entries]
    assert logprobs["token_logprobs"] == [entry["logprob"] for entry in entries]
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    assert logprobs["text_offset"] == list(starts(vocabulary, text.tokens))[: len(entries)]
    for name, values in logprobs.items():
        assert values == [x for chunk in chunks for x in chunk["logprobs"][name]]


def test_an_api_that_there_is_not():
    choice = lc.Choice(lc.Params(), [b"a"].__getitem__, seed=3)
    for form in (choice.response, choice.delta):
        with pytest.raises(ValueError, match="api must be one of chat, completions, not 'xml'"):
            form(api="xml")


def test_a_prefix_is_a_part_of_the_text_and_no_stop_phrase_is_found_in_it():
    vocabulary = [b"one", b" two"]
    params = lc.Params(stop="two", logprobs=True)
    choice = lc.Choice(params, vocabulary.__getitem__, seed=3, prefix="two and ")
    assert choice.delta(api="completions")["text"] == choice.text == "two and "
    assert choice.append(0, -1.0) == "one"
    assert choice.response(api="completions")["logprobs"]["text_offset"] == [8]
    assert (choice.text, choice.delta()["delta"]["content"]) == ("two and one", "one")
    resumed = lc.Choice(
        params, vocabulary.__getitem__, seed=3, prefix="two and ", output_tokens=[0]
    )
    assert (resumed.text, resumed.delta()["delta"]["content"]) == ("two and one", "")


@pytest.mark.parametrize("reason", ["", None, 3])
def test_a_reason_to_finish_is_a_word(reason):
    choice = lc.Choice(lc.Params(), [b"a"].__getitem__, seed=0)
    with pytest.raises(ValueError, match=r"^reason must be a non-empty string"):
        choice.finish(reason)
    assert choice.append(0) == "a"


def test_a_choice_that_was_finished_does_not_resume():
    choice = lc.Choice(lc.Params(eos_token=0), [b"", b"a"].__getitem__, seed=0)
    choice.append(1)
    choice.finish("stop")
    with pytest.raises(ValueError, match="only a choice that an end token has ended"):
        choice.resume()


@pytest.mark.parametrize("prefix", [b"P", None, 3])
def test_a_prefix_is_a_string(prefix):
    with pytest.raises(TypeError, match=r"^prefix must be a string"):
        lc.Choice(lc.Params(), [b"a"].__getitem__, seed=0, prefix=prefix)


def test_of_tokens_that_read_alike_the_best_is_listed():
    params = lc.Params(logprobs=True, top_logprobs=3)
    choice = lc.Choice(params, [b"\xc3", b"\xa9", b"\xff"].__getitem__, seed=1)
    choice.append(0, -1.0, ([0, 1, 2], [-1.0, -2.0, -3.0]))
    choice.finish()
    logprobs = choice.response(api="completions")["logprobs"]
    assert logprobs["top_logprobs"] == [{"\ufffd": -1.0}]
