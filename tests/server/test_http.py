"""What goes over the wire besides answers: metrics, CORS, uploads that do not end, the end."""

import http.client
import json
import re
import signal
import socket
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import openai
import pytest
import uvicorn
from asking import MODEL, ask, get, post, stream, user, wait_for
from serve import Protocol
from server.app import create
from server.scheduler import Scheduler

from conftest import Server

LONG = {"seed": 1, "temperature": 2, "max_tokens": 1500, "banned_tokens": [0, 2]}


def metrics(server):
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}


def test_metrics(server, client):
    before = metrics(server)
    whole = ask(client, max_tokens=4, n=2)
    stream(client, max_tokens=4)
    post(server.url, {})
    get(server.url, "/v1/" + "x" * 1000)
    after = metrics(server)

    def grown(name):
        return after[name] - before.get(name, 0)

    path = 'app_name="logitchain",method="POST",path="/v1/chat/completions"'
    assert grown(f'logitchain_requests_total{{{path},status_code="200"}}') == 2
    assert grown(f'logitchain_requests_total{{{path},status_code="400"}}') == 1
    assert grown('logitchain_tokens_total{kind="completion"}') == 12
    assert grown('logitchain_tokens_total{kind="prompt"}') == 2 * whole.usage.prompt_tokens
    assert grown("logitchain_first_token_seconds_count") == 2
    assert [after[f'logitchain_load{{kind="{kind}"}}'] for kind in ("running", "waiting")] == [0, 0]
    assert not any("xxx" in name for name in after)


def test_a_page_of_another_origin_may_ask_where_it_is_allowed_to(guarded, server):
    for one, allowed in ((guarded, "https://a.example"), (server, None)):
        for origin in ("https://a.example", "https://b.example"):
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type",
            }
            connection = http.client.HTTPConnection(urlsplit(one.url).netloc, timeout=60)
            connection.request("OPTIONS", "/v1/chat/completions", headers=headers)
            response = connection.getresponse()
            response.read()
            is_allowed = origin == allowed
            assert (response.status == 200) == is_allowed
            assert (response.headers["Access-Control-Allow-Origin"] == origin) == is_allowed
            connection.close()


def test_no_line_break_of_unicode_is_in_a_stream(server, tokenizer):
    """Some clients take these for the end of a line, and the JSON for cut."""
    breaks = "a\u2028b\u2029c\x85d"
    ids = tokenizer.encode(breaks)
    body = {
        "messages": user(f"Say {breaks}"),
        "allowed_tokens": ids,
        "max_tokens": 60,
        "seed": 1,
        "stream": True,
    }
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        data = response.read()
    text = data.decode()
    assert "\\u2028" in text
    assert text.splitlines() == text.split("\n")[:-1]


def test_a_queue_that_is_full_says_when_to_try_again(guarded):
    client = guarded.client("a token")
    story = {"model": MODEL, "messages": user("Hi"), "stream": True}
    running = client.chat.completions.create(**story, n=16, extra_body=LONG)
    wait_for(guarded.url, running=16)
    waiting = [
        threading.Thread(target=lambda: ask(client, max_tokens=1), daemon=True) for _ in range(2)
    ]
    for one in waiting:
        one.start()
    wait_for(guarded.url, waiting=2)
    with pytest.raises(openai.RateLimitError) as error:
        ask(client, max_tokens=1)
    assert int(error.value.response.headers["Retry-After"]) >= 1
    running.close()
    for one in waiting:
        one.join(timeout=120)


# ---- uploads that do not end


def read_all(connection, seconds):
    """What comes until the server closes the connection."""
    connection.settimeout(seconds)
    data = b""
    while part := connection.recv(4096):
        data += part
    return data


@pytest.fixture
def impatient(monkeypatch, model, grammars):
    """The address of a server in this process that waits for uploads for a second."""
    monkeypatch.setattr("server.app.UPLOAD_SECONDS", 1)
    monkeypatch.setattr("serve.UPLOAD_SECONDS", 1)
    listener = socket.create_server(("127.0.0.1", 0))
    app = create(Scheduler(model), grammars)
    running = uvicorn.Server(uvicorn.Config(app, http=Protocol, log_level="warning"))
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    yield listener.getsockname()
    running.should_exit = True
    thread.join(timeout=60)


def test_uploads_that_do_not_end_are_closed(impatient):
    """A body that trickles, one that is too large as well, headers that trickle, and silence."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    begins = {
        b"408": head % 99 + b"{",
        b"408 ": head % (4 << 20) + b" " * (2 << 20),
        b"": b"POST /v1/chat/completions HTTP/1.1\r\nHost:",
        b" ": b"",
    }
    connections = {}
    for status, data in begins.items():
        connections[status] = socket.create_connection(impatient)
        connections[status].sendall(data)
    for status, connection in connections.items():
        with connection:
            data = read_all(connection, seconds=60)
        assert (status.strip() in data) if status.strip() else data == b""
    assert get("http://{}:{}".format(*impatient), "/health")[0] == 200


# ---- the end


@pytest.mark.parametrize(
    ("number", "grace"),
    [(signal.SIGINT, 600), (signal.SIGTERM, 1)],
    ids=lambda x: getattr(x, "name", x),
)
def test_it_stops_within_the_grace_and_without_a_word(tmp_path, number, grace):
    """What is under way goes on for the grace, or up to a second Ctrl-C; then it is told so."""
    running = Server(tmp_path / "log", "--grace", str(grace))
    before = running.log.read_text()
    client = running.client()
    ends = {}

    def tell(name, **fields):
        try:
            ends[name] = ask(client, "Tell me a story.", **fields).choices[0].finish_reason
        except openai.InternalServerError as error:
            ends[name] = error.status_code

    def tell_in_a_stream():
        try:
            ends["stream"] = len(stream(client, "Tell me a story.", **LONG))
        except openai.APIError as error:
            ends["stream"] = str(error)

    threads = [
        threading.Thread(target=tell, args=("whole",), kwargs=LONG),
        threading.Thread(target=tell_in_a_stream),
        threading.Thread(target=tell, args=("waiting",), kwargs={**LONG, "n": 16}),
    ]
    for thread, state in zip(threads, ((1, 0), (2, 0), (2, 1)), strict=True):
        thread.start()
        wait_for(running.url, running=state[0], waiting=state[1])
    began = time.monotonic()
    running.process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(1)
        assert running.process.poll() is None
        running.process.send_signal(number)
    code = running.process.wait(timeout=60)
    assert time.monotonic() - began < 30
    assert code == (130 if number == signal.SIGINT else -signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=60)
    assert ends["whole"] == ends["waiting"] == 503
    assert "stopping" in ends["stream"]
    assert running.log.read_text() == before


def test_ctrl_c_while_it_loads(tmp_path):
    """Nothing is printed but what it was doing."""
    running = Server(tmp_path / "log", wait=False)
    while "loading" not in running.log.read_text():
        time.sleep(0.05)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=60) == 130
    assert re.fullmatch(r"loading .*\n(compiling .*\n)?", running.log.read_text())
