"""The playground as it is served, what a user does with its page, and what can be read off it."""

import shutil
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import expect

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
sys.path.insert(0, str(EXAMPLES))

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), "")
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

    app = create(model, *arguments)
    app.state.explainer.warmup()
    return Served(app)


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


def launch(playwright):
    """Headless Chromium."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))


def settle(page, act):
    """Do something that changes the state, and wait until the page shows it."""
    body = page.locator("body")
    turns = body.get_attribute("data-turns")
    act()
    expect(body).not_to_have_attribute("data-turns", turns)
    page.wait_for_timeout(80)  # for a further turn, if there were several changes


def number(page, control, field=None):
    return page.locator(
        f'[data-name="{control}"] [data-field="{field or control}"] input[type=number]'
    )


def slider(page, control, field=None):
    return page.locator(
        f'[data-name="{control}"] [data-field="{field or control}"] input[type=range]'
    )


def put(page, control, value, field=None):
    settle(page, lambda: number(page, control, field).fill(str(value)))


def write(page, count):
    """Write on by so many tokens, and wait for the end of it."""
    page.locator("#count").fill(str(count))
    page.locator("#write").click()
    expect(page.locator("#write")).to_have_text("Write on", timeout=60_000)
    page.wait_for_timeout(80)


def text(page, which=0):
    """The text so far, up to the position."""
    words = page.locator(".answer").nth(which).locator(".word:not(.ahead, .current, .end)")
    return "".join(words.all_text_contents())


def columns(page):
    """The names over the columns: the controls that are on."""
    return page.locator(".stages .stage-name").all_text_contents()


def rows(page):
    """The rows of the table: the cells' texts."""
    return [row.split("\t") for row in page.locator(".stages tbody tr").all_inner_texts()]


def drawn(page):
    """The text of the token that is drawn, as the table shows it."""
    return (
        page.locator(".stages tbody tr", has=page.locator(".is-drawn"))
        .first.locator(".token")
        .text_content()
    )


def attributes(locator, name):
    """The `data-` attribute of each element."""
    return locator.evaluate_all(f"all => all.map((element) => element.dataset.{name})")
