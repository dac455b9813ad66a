"""The playground as it is served, and a page of it in headless Chromium."""

import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
sys.path.insert(0, str(EXAMPLES))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
#: Without its background services, which look for hosts elsewhere, and for use in a container.
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

expect.set_options(timeout=30_000)


class Served:
    """An app of the playground on a port of its own, in a thread."""

    def __init__(self, app):
        self.app = app
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()

    def stop(self):
        self._server.should_exit = True
        self._thread.join(timeout=20)


def serve(model, *arguments):
    """A running playground."""
    from playground.app import create

    return Served(create(model, *arguments))


def open_page(browser, url, *, width=1280, height=800, dark=False, trusted=True):
    """A page of the playground, ready; `page.complaints` collects what the browser complains of.

    trusted   False switches the page's content security policy off, as `page.evaluate` needs
    """
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        bypass_csp=not trusted,
    )
    page.complaints = []
    page.on("console", lambda x: x.type in ("error", "warning") and page.complaints.append(x.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: page.complaints.append(request.url))
    page.goto(url)
    page.locator("body[data-ready]").wait_for(timeout=60_000)
    return page


@pytest.fixture(scope="session")
def model():
    """The first four of the model's thirty layers: quick, and what it says does not matter here."""
    from smollm2 import Model

    model = Model.load()
    model.layers = model.layers[:4]
    return model


@pytest.fixture(scope="session")
def served(model):
    running = serve(model)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def served_with_own(model):
    """One whose chain has the control of docs/examples/own_control.py."""
    from play import own_controls

    running = serve(model, *own_controls(str(EXAMPLES / "own_control.py")))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served):
    """A page, which may not have complained of anything at the end."""
    opened = open_page(browser, served.url)
    yield opened
    assert opened.complaints == []
    opened.close()
