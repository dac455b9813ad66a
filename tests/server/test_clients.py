"""Clients that go away, and more of them than there is room for."""

import http.client
import json
import re
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from asking import MODEL, TOKEN, ask, health, user, wait_for

LONG = {"seed": 1, "temperature": 2, "max_tokens": 1500, "banned_tokens": [0, 2]}


def begin(server, **fields):
    """A connection that has sent a request and not read the answer."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    body = {"model": MODEL, "messages": user("Tell me a story."), **LONG, **fields}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def test_the_snippets_of_the_page_run(server):
    page = Path(__file__).parents[2] / "docs/server.md"
    asks, marks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    code = asks.replace("127.0.0.1:PORT", urlsplit(server.url).netloc)
    exec(code.replace('"none"', repr(TOKEN)), names := {})
    assert [choice.seed for choice in names["answer"].choices] == [7, 8]
    exec(marks, names)
    names["client"].close()
    assert names["found"].p_value < 1e-3


def test_a_stream_that_is_left_frees_its_rows(server, client):
    story = client.chat.completions.create(
        model=MODEL, messages=user("Tell me a story."), stream=True, n=3, extra_body=LONG
    )
    for _ in range(8):
        next(story)
    assert health(server.url)["running"] == 3
    story.close()
    wait_for(server.url, running=0)


def test_a_whole_answer_that_nobody_waits_for_frees_its_rows(server):
    connection = begin(server, n=2)
    wait_for(server.url, running=2)
    connection.close()
    wait_for(server.url, running=0)


def test_half_a_request(server):
    address = urlsplit(server.url)
    for data in (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
        b"?",
    ):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(data)
            time.sleep(0.1)
    assert health(server.url)["running"] == 0


def test_requests_wait_for_rows_and_for_a_bounded_time_in_a_bounded_queue(guarded):
    """Sixteen rows are taken; two requests wait; the next one is refused; who leaves makes room."""
    client = guarded.client(TOKEN)
    running = begin(guarded, n=16)
    wait_for(guarded.url, running=16)
    waiting = [begin(guarded), begin(guarded)]
    wait_for(guarded.url, waiting=2)
    with pytest.raises(openai.RateLimitError, match="2 requests are waiting"):
        ask(client)
    waiting[0].close()
    wait_for(guarded.url, waiting=1)
    running.close()
    wait_for(guarded.url, running=1, waiting=0)
    waiting[1].close()
    wait_for(guarded.url, running=0)
    assert ask(client, max_tokens=1).choices
