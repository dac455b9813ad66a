"""Draw docs/images/playground.png and its twin that compares: `make screenshots`."""

from pathlib import Path

from driving import launch, open_page, put, serve, settle, write
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[2] / "docs/images"


def main():
    from smollm2 import Model

    served = serve(Model.load())
    with sync_playwright() as playwright:
        page = open_page(launch(playwright), served.url)
        write(page, 30)
        page.screenshot(path=IMAGES / "playground.png")

        page.emulate_media(color_scheme="dark")
        settle(page, page.locator("#compare").click)
        settle(page, lambda: page.locator("#preset").select_option("llama_cpp"))
        put(page, "temperature", 1.4)
        put(page, "xtc", 0, "xtc_probability")
        page.locator("#restart").click()
        write(page, 24)
        settle(page, page.locator('.answer >> nth=0 >> [data-place="0"]').click)
        page.screenshot(path=IMAGES / "playground_compare.png")
    served.stop()


if __name__ == "__main__":
    main()
