"""The playground as it is served, and a page of it in headless Chromium."""

import pytest
from driving import EXAMPLES, launch, open_page, serve
from playwright.sync_api import sync_playwright


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
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served):
    """A page, which may not have complained of anything at the end."""
    opened = open_page(browser, served.url)
    yield opened
    assert opened.complaints == []
    opened.close()
