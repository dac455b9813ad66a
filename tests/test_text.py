"""The stream of text against its definition: decode everything, then look for a phrase."""

import codecs
import copy
import pickle
import sys

import pytest
from hypothesis import given

import logitchain as lc
import reference
import strategies


@given(strategies.streams())
def test_the_pieces_joined_are_the_whole_text_cut_at_its_first_phrase(stream):
    pieces, stop = stream
    stream = lc.TextStream(stop)
    out = [stream.feed(piece) for piece in pieces] + [stream.end()]
    whole = b"".join(pieces).decode("utf-8", "replace")
    assert ("".join(out), stream.stopped) == reference.cut(whole, stop)
    assert (stream.text, stream.length) == ("".join(out), len("".join(out)))


@given(strategies.streams())
def test_no_more_is_held_back_than_some_next_characters_would_cut(stream):
    pieces, stop = stream
    stream, decoder = lc.TextStream(stop), codecs.getincrementaldecoder("utf-8")("replace")
    complete = ""
    for piece in pieces:
        complete += decoder.decode(piece)
        stream.feed(piece)
        if stream.stopped:
            return
        held = complete[len(stream.text) :]
        rests = [phrase[len(held) :] for phrase in stop if phrase.startswith(held)]
        assert not held or stream.text in [
            reference.cut(complete + rest, stop)[0] for rest in rests
        ]


@given(strategies.streams())
def test_a_piece_starts_where_its_first_byte_is_decoded(stream):
    pieces, stop = stream
    stream, before = lc.TextStream(stop), b""
    for piece in pieces:
        if piece:
            upto = (before + piece[:1]).decode("utf-8", "replace")
            assert stream.start(piece) == len(upto) - 1
        stream.feed(piece)
        before += piece
        if stream.stopped:
            return


@pytest.mark.parametrize(
    ("stop", "fed", "out", "stopped"),
    [
        (["END"], [b"a E", b"N", b"D b"], ["a ", "", ""], "END"),
        (["END"], [b"a E", b"N", b"E"], ["a ", "", "EN"], None),  # nearly, and anew
        (["b", "abc"], [b"a", b"b", b"c"], ["a", "", ""], "b"),  # the shorter is complete first
        (["bc", "abc"], [b"xab", b"c"], ["x", ""], "abc"),  # both at once: the longer
        (["ab", "abc"], [b"abc"], [""], "ab"),
        (["a", "b"], [b"xaby"], ["x"], "a"),  # two in one token
        (["aab"], [b"aaa", b"ab"], ["a", "a"], "aab"),
        (["🐋"], [b"a\xf0", b"\x9f", b"\x90", b"\x8b"], ["a", "", "", ""], "🐋"),
        (["é"], [b"e\xcc\x81"], ["e\u0301"], None),  # no normalising: a combining accent
        (["\ufffd"], [b"a\xff", b"b"], ["a", ""], "\ufffd"),  # bytes that are no text
        (["\ud800"], [b"\xed\xa0\x80."], ["\ufffd" * 3 + "."], None),  # never in any text
        ("END", [b"", b"E", b"", b"ND"], ["", "", "", ""], "END"),
    ],
)
def test_cases(stop, fed, out, stopped):
    stream = lc.TextStream(stop)
    assert ([stream.feed(piece) for piece in fed], stream.stopped) == (out, stopped)


def test_the_end_lets_go_of_what_was_held_back():
    stream = lc.TextStream(["END", "\ufffd!"])
    assert stream.feed(b"a EN\xf0\x9f") == "a "
    assert (stream.end(), stream.end(), stream.text) == ("EN\ufffd", "", "a EN\ufffd")
    with pytest.raises(ValueError, match=r"^piece b'x' comes after the end of the text$"):
        stream.feed(b"x")


def test_bytes_that_break_off_can_complete_a_phrase_at_the_end():
    stream = lc.TextStream("\ufffd")
    assert (stream.feed(b"a\xf0\x9f"), stream.end(), stream.stopped) == ("a", "", "\ufffd")


def test_nothing_comes_after_a_stop_phrase():
    stream = lc.TextStream("b")
    assert [stream.feed(piece) for piece in (b"abc", b"d", b"\xf0")] == ["a", "", ""]
    assert (stream.end(), stream.text) == ("", "a")


@pytest.mark.parametrize("piece", ["a", 3, None, bytearray(b"a"), [97]])
def test_a_piece_that_is_no_bytes(piece):
    with pytest.raises(TypeError, match=r"^piece must be bytes, not "):
        lc.TextStream().feed(piece)


@pytest.mark.parametrize("stop", [[""], ["a", ""], 3, ["a", 3], [b"a"]])
def test_a_phrase_that_is_none(stop):
    with pytest.raises((TypeError, ValueError), match=r"^stop must be "):
        lc.TextStream(stop)


def lines_run(work):
    """How many lines of Python a call executes: its time, without a clock."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def feed_all(stop, text):
    stream = lc.TextStream(stop)
    return lambda: [stream.feed(c.encode()) for c in text]


@pytest.mark.parametrize(
    "stop",
    [
        ["a" * 400 + "b"],
        ["a" * k + "b" for k in range(1, 100)],
        [f"{k:03}" for k in range(1000)],
        ["ab" * 200 + "c", "ba" * 200 + "c"],
    ],
)
def test_the_time_is_linear_in_the_text(stop):
    per_character = lines_run(feed_all((), "a" * 1000)) / 1000
    for unit in ("a", "ab", "a" * 399 + "c"):
        text = (unit * 3000)[:3000]
        assert lines_run(feed_all(stop, text)) < 3 * per_character * len(text)


def test_the_time_to_make_one_is_linear_in_the_phrases():
    def making(k):
        return lines_run(lambda: lc.TextStream(["a" * i + "b" * k for i in range(k)])) / k**2

    assert making(80) < 1.3 * making(20)


def test_a_stream_can_be_copied_and_pickled():
    stream = lc.TextStream(["END"])
    stream.feed(b"a E\xf0\x9f"[:3])
    stream.feed(b"\xf0\x9f")
    for other in (copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))):
        assert (other.feed(b"\x90\x8b"), other.text) == ("E🐋", "a E🐋")


@given(strategies.streams())
def test_what_follows_a_phrase_is_the_rest_of_the_text(stream):
    pieces, stop = stream
    stream = lc.TextStream(stop)
    for piece in pieces:
        stream.feed(piece)
    if not stream.stopped:
        assert stream.rest == b""
        return
    whole = b"".join(pieces).decode("utf-8", "replace")
    assert stream.text + stream.stopped + stream.rest.decode("utf-8", "replace") == whole


def test_what_follows_a_phrase_can_be_fed_to_another_stream():
    first, second = lc.TextStream("|"), lc.TextStream("|")
    assert first.feed("a\u20ac|b\u20ac".encode()[:7]) == "a\u20ac"
    assert second.feed(first.rest) == "b"
    first.feed(b"\x82")
    assert first.rest == b"b\xe2\x82"
    assert second.feed(b"\x82\xac|c") == "\u20ac"
    assert second.rest == b"c"


def test_streams_of_one_request_share_what_finds_the_phrases():
    params = lc.Params(stop=["ab", "cab"], n=2, seed=1)
    first, second = (lc.TextStream(sample.stop) for sample in params.samples())
    assert first._automaton is second._automaton
    assert first.feed(b"xa") == second.feed(b"x") == "x"
    assert (first.feed(b"b"), second.feed(b"b")) == ("", "b")
