"""What a user does with the page, and what can be read off it."""

from playwright.sync_api import expect


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
