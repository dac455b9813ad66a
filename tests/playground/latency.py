"""Milliseconds from a moved slider to the painted table: `python tests/playground/latency.py`."""

import argparse

import numpy as np
from driving import launch, open_page, serve
from playwright.sync_api import sync_playwright

#: Moves the temperature's slider step by step, each time the page shows the last move.
MOVE = """async (moves) => {
    const slider = document.querySelector('[data-name="temperature"] input[type=range]');
    const { dataset } = document.body;
    const found = [];
    for (let i = 0; i < moves; i++) {
        const turn = dataset.turns;
        slider.value = Number(slider.value) + (i < moves / 2 ? 1 : -1);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        while (dataset.turns === turn) await new Promise((done) => setTimeout(done, 2));
        found.push([dataset.latency, dataset.chain, dataset.model].map(Number));
    }
    return found;
}"""


def measure(browser, url, moves):
    """Milliseconds of each move: in all, of it in the chain, of it in the model."""
    page = open_page(browser, url)
    page.locator("#step").click()
    page.wait_for_timeout(500)
    found = np.array(page.evaluate(MOVE, moves))
    page.close()
    return dict(zip(("all", "chain", "model"), found.T, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=60)
    arguments = parser.parse_args()
    from smollm2 import Model

    served = serve(Model.load())
    with sync_playwright() as playwright:
        figures = measure(launch(playwright), served.url, arguments.moves)
    served.stop()
    for name, values in figures.items():
        low, middle, high = np.percentile(values, [10, 50, 90])
        print(f"{name:6} median {middle:5.1f} ms, 10 % to 90 %: {low:.1f} to {high:.1f} ms")


if __name__ == "__main__":
    main()
