"""The page in a browser: what can be done with it, by mouse and by keyboard."""

import json
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from driving import (
    attributes,
    columns,
    drawn,
    number,
    open_page,
    put,
    rows,
    settle,
    slider,
    text,
    write,
)
from playwright.sync_api import expect

import logitchain as lc
from logitchain.controls import CONTROLS

#: What the page starts with.
BODY = {"temperature": 0.9, "top_p": 0.95, "min_p": 0.03, "xtc_probability": 0.5}
BODY |= {"xtc_threshold": 0.1, "seed": 7}
PROMPT = "Tell me about whales."


def written(model, body, count, chain=None, prompt=PROMPT):
    """What the library writes without the page."""
    chain, tokenizer = chain or lc.Chain(), model.tokenizer
    params = lc.Params.from_request(body, eos_token=tokenizer.eos)
    ids = tokenizer.chat([{"role": "user", "content": prompt}])
    batch = lc.Batch(tokenizer.vocab_size)
    (row,) = batch.add(params, ids)
    logits, cache = model.prefill(ids)
    for _ in range(count):
        token = int(chain.sample(logits, batch)[0])
        batch.append([token])
        logits = model.step([cache], [token])[0]
    return tokenizer.decode(batch.output(row))


def test_the_page_loads_from_here_alone_and_without_a_complaint(browser, served):
    asked = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)
    page.locator("body[data-ready]").wait_for()
    assert all(url.startswith((served.url, "data:")) for url in asked)
    assert {"main.js", "style.css", "catalogue", "explain"} <= {x.split("/")[-1] for x in asked}
    page.close()


def test_every_record_has_its_inputs(page):
    expect(page.locator("#chain > li")).to_have_count(len(CONTROLS))
    assert attributes(page.locator("#chain > li"), "name") == list(lc.DEFAULT_ORDER)
    shown = set(attributes(page.locator("[data-field]"), "field"))
    response = {"n", "logprobs", "top_logprobs", "logprob_token_ids", "logprobs_of"}
    assert shown == set(lc.FIELDS) - response - {"seed"}
    expect(page.locator("#seed")).to_have_value("7")


def test_a_control_of_ones_own_appears_by_itself(browser, served_with_own):
    page = open_page(browser, served_with_own.url)
    item = page.locator('[data-name="top_cube"]')
    item.locator(".name").click()
    expect(item.locator(".description")).to_contain_text("Remove the tokens of one row")
    put(page, "top_cube", 0.9)
    assert "top_cube" in columns(page)
    assert any("✕ top_cube" in row for row in rows(page))
    put(page, "top_cube", 2)
    expect(item.locator(".error")).to_have_text("top_cube must be in [0, 1], not 2")
    assert page.complaints == []
    page.close()


def test_a_moved_slider_changes_the_table(page):
    before = rows(page)
    settle(page, lambda: slider(page, "temperature").press("ArrowRight"))
    assert rows(page) != before
    assert float(number(page, "temperature").input_value()) > 0.9
    box = slider(page, "top_k").bounding_box()
    settle(page, lambda: page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 11))
    top_k = int(number(page, "top_k").input_value())
    assert 10 < top_k < 2_000
    place = columns(page).index("top_k")
    kept = page.locator(".stages .stage-head").nth(place).locator(".stage-kept")
    expect(kept).to_have_text(f"{top_k:,} left")


def test_every_step_of_a_slider_is_another_value_in_the_range(page):
    for name in ("min_p", "top_p", "top_k", "repetition_penalty", "frequency_penalty", "top_h"):
        one, values = slider(page, name), []
        for key in ("Home", "ArrowRight", "ArrowRight", "End", "ArrowLeft"):
            one.press(key)
            values.append(number(page, name).input_value())
        assert len(set(values)) == len(values)
        for value in filter(None, values):
            lc.Params(**{name: json.loads(value)})
    settle(page, page.locator("#all-off").click)
    expect(page.locator(".error:visible")).to_have_count(0)


def test_switching_off_needs_one_click(page):
    settle(page, page.get_by_role("button", name="min_p off").click)
    assert "min_p" not in columns(page)
    expect(number(page, "min_p")).to_have_value("0")
    settle(page, page.locator('[data-field="p_less"] input').click)
    assert "p_less" in columns(page)


def test_a_removed_token_names_its_control(page):
    put(page, "top_k", 2)
    place = columns(page).index("top_k")
    gone = page.locator(".stages tbody tr", has=page.get_by_text("✕ top_k")).first
    expect(gone.locator("td").nth(place)).to_have_text("✕ top_k")
    gone.click()
    expect(page.locator("#fate")).to_contain_text("removed by top_k: ")
    expect(page.locator("#fate .token")).to_have_text(gone.locator(".token").text_content())


def test_probabilities_are_those_of_the_library(page, model, served):
    ids = model.tokenizer.chat([{"role": "user", "content": PROMPT}])
    batch = lc.Batch(model.tokenizer.vocab_size)
    (row,) = batch.add(lc.Params.from_request(BODY), ids)
    ours = lc.Chain().explain(model.prefill(ids)[0], batch, row)
    token = int(ours.stages[0].logits.argmax())
    on = [stage for stage in ours.stages if stage.setting != "off"]
    cells = page.locator(f'tr[data-token="{token}"] td').all_text_contents()
    for stage, cell in zip(on, cells, strict=False):
        if stage.left[token]:
            assert cell == f"{100 * stage.probs[token]:.2f}"
    assert page.locator(".stages tbody tr.drawn").get_attribute("data-token") == str(ours.token)


def test_order_by_drag(page):
    grip, onto = (page.locator(f'[data-key="grip {name}"]') for name in ("temperature", "xtc"))
    assert columns(page) == ["model", "temperature", "top_p", "min_p", "xtc", "draw"]
    grip.scroll_into_view_if_needed()
    start, end = grip.bounding_box(), onto.bounding_box()
    page.mouse.move(start["x"] + 8, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(end["x"] + 8, end["y"] - 40, steps=4)
    page.mouse.move(end["x"] + 8, end["y"] + 45, steps=4)
    settle(page, page.mouse.up)
    assert columns(page) == ["model", "top_p", "min_p", "xtc", "temperature", "draw"]
    expect(page.locator("#preset")).to_have_value("")


def test_order_by_keyboard(page):
    grip = page.locator('[data-key="grip min_p"]')
    grip.focus()
    settle(page, lambda: page.keyboard.press("ArrowUp"))
    assert columns(page)[2:4] == ["min_p", "top_p"]
    expect(grip).to_be_focused()
    place = list(lc.DEFAULT_ORDER).index("min_p")
    expect(page.locator("#announce")).to_have_text(f"min_p is {place} of {len(lc.DEFAULT_ORDER)}")
    settle(page, lambda: page.keyboard.press("ArrowDown"))
    expect(page.locator("#preset")).to_have_value("default")


def test_controls_leave_the_chain_and_come_back(page):
    page.locator('[data-name="top_k"] .name').click()
    settle(page, page.locator('[data-name="top_k"]').get_by_text("Remove from the chain").click)
    expect(page.locator("#outside-list")).to_contain_text("top_k")
    settle(page, page.get_by_role("button", name="Add top_k").click)
    expect(page.locator("#preset")).to_have_value("default")


@pytest.mark.parametrize("name", ["llama_cpp", "vllm"])
def test_order_by_preset(page, name):
    settle(page, lambda: page.locator("#preset").select_option(name))
    steps = [step.name for step in lc.Chain.preset(name).steps]
    assert attributes(page.locator("#chain > li"), "name") == steps
    on = [x for x in steps if x in ("temperature", "top_p", "min_p", "xtc")]
    assert columns(page) == ["model", *on, "draw"]
    outside = attributes(page.locator("#outside-list > li"), "name")
    assert set(outside) == set(lc.DEFAULT_ORDER) - set(steps)
    if name == "vllm":
        expect(page.locator("#status")).to_contain_text("not in this chain: xtc_probability")


def test_options_of_the_chain(page):
    page.locator('[data-name="top_k"] .name').click()
    option = page.get_by_label("option ties of top_k")
    expect(option).to_have_value("first")
    settle(page, lambda: option.select_option("all"))
    expect(page.locator("#preset")).to_have_value("")
    page.locator("#share").click()
    expect(page.get_by_label("The chain, in Python")).to_have_value(
        re.compile(r'\("top_k", {"ties": "all"}\),')
    )


def test_step_undo_and_a_token_of_the_text(page):
    first = drawn(page)
    settle(page, page.locator("#step").click)
    assert text(page).replace(" ", "·") == first
    write(page, 4)
    long = text(page)
    settle(page, page.locator("#back").click)
    assert long.startswith(text(page))
    assert len(text(page)) < len(long)
    settle(page, page.locator("#step").click)
    assert text(page) == long
    settle(page, page.locator('.word[data-place="0"]').click)
    assert (text(page), drawn(page)) == ("", first)
    settle(page, page.locator("#restart").click)
    expect(page.locator(".word:not(.end)")).to_have_count(0)


def test_the_text_is_what_the_library_writes_with_the_seed(page, model):
    write(page, 6)
    once = text(page)
    assert once == written(model, BODY, 6)
    page.locator("#restart").click()
    write(page, 6)
    assert text(page) == once
    settle(page, lambda: page.locator("#seed").fill("8"))
    page.locator("#restart").click()
    write(page, 6)
    assert text(page) == written(model, BODY | {"seed": 8}, 6) != once


def test_a_state_is_that_of_the_text_so_far(page, model):
    settle(page, page.locator("#all-off").click)
    put(page, "mirostat", 4, "mirostat_tau")
    write(page, 5)
    assert text(page) == written(model, {"mirostat_tau": 4, "seed": 7}, 5)


def test_a_prompt_begins_a_new_text(page, model):
    write(page, 2)
    page.locator("#prompt").fill("What is <b>bold</b>?")
    settle(page, lambda: page.locator("#prompt").press("Tab"))
    assert text(page) == ""
    write(page, 3)
    assert text(page) == written(model, BODY, 3, prompt="What is <b>bold</b>?")


def test_a_prompt_that_is_too_long_is_refused(page):
    page.locator("#prompt").fill("word " * 1_200)
    page.locator("#prompt").press("Tab")
    expect(page.locator("#status")).to_contain_text("the prompt must have at most 1000 tokens")
    page.complaints.clear()  # Chromium logs every answer of status 400


def test_impatience_changes_nothing(page, model):
    for _ in range(4):
        page.locator("#step").click(no_wait_after=True)
    expect(page.locator(".word:not(.end)")).to_have_count(4)
    assert text(page) == written(model, BODY, 4)


def test_writing_stops_at_the_end_of_the_text(page, model):
    end = model.tokenizer.eos[0]
    adder = page.get_by_label("add to allowed_tokens")
    adder.fill(str(end))
    settle(page, lambda: adder.press("Enter"))
    write(page, 5)
    expect(page.locator(".word.special")).to_have_text("<|im_end|>")
    expect(page.locator("#status")).to_contain_text("the text has ended")


def test_two_settings_side_by_side(page, model):
    settle(page, page.locator("#compare").click)
    expect(page.locator(".answer")).to_have_count(2)
    expect(page.locator(".mark")).to_have_count(0)
    stages = ["temperature", "top_p", "min_p", "xtc", "draw"]
    assert columns(page) == ["model", *stages, *stages]  # the same logits are shown once
    put(page, "xtc", 0, "xtc_probability")
    put(page, "top_k", 1)
    assert page.locator(".mark").count() > 0
    marked = page.locator("tr.differs").first
    marked.click()
    expect(page.locator("#fate p")).to_have_count(2)
    write(page, 5)
    assert text(page, 0) == written(model, BODY, 5)
    assert text(page, 1) == written(model, BODY | {"xtc_probability": 0, "top_k": 1}, 5)
    expect(page.locator(".answer").nth(1).locator(".word.differs").first).to_be_visible()
    page.locator(".tab-a").click()
    expect(number(page, "top_k")).to_have_value("0")
    expect(page.locator('[data-name="top_k"]')).to_have_class(re.compile("differs"))
    page.locator(".tab-b").click()
    settle(page, lambda: page.locator("#preset").select_option("koboldcpp"))
    expect(page.locator(".groups")).to_contain_text("A")
    settle(page, page.locator("#compare").click)
    expect(page.locator("#preset")).to_have_value("koboldcpp")


def test_a_setting_is_shared_as_a_request_body(page):
    put(page, "dry", 0.8, "dry_multiplier")
    page.locator("#share").click()
    body = json.loads(page.locator("#share-body").input_value())
    expected = lc.Params.from_request(BODY | {"dry_multiplier": 0.8})
    assert lc.Params.from_request(body) == expected
    assert body["messages"] == [{"role": "user", "content": PROMPT}]
    body |= {"messages": [{"role": "user", "content": "Hello!"}], "top_k": 5, "seed": 11, "n": 3}
    page.locator("#share-body").fill(json.dumps(body))
    settle(page, page.locator("#share-apply").click)
    expect(page.locator("#prompt")).to_have_value("Hello!")
    expect(page.locator("#seed")).to_have_value("11")
    expect(number(page, "top_k")).to_have_value("5")
    page.locator("#share").click()
    page.locator("#share-body").fill("{")
    page.locator("#share-apply").click()
    expect(page.locator("dialog .error")).to_be_visible()
    page.locator("#share-body").fill('{"top-p": 0.5}')
    settle(page, page.locator("#share-apply").click)
    expect(page.locator("#general-error")).to_contain_text("did you mean 'top_p'?")


def test_the_address_restores_the_page(browser, page, served):
    settle(page, page.locator("#compare").click)
    settle(page, lambda: page.locator("#preset").select_option("llama_cpp"))
    put(page, "temperature", 1.5)
    write(page, 4)
    settle(page, page.locator('.answer >> nth=1 >> [data-place="2"]').click)
    page.locator("#share").click()
    address = page.locator("#share-address").input_value()
    other = open_page(browser, address)
    assert [text(other, i) for i in (0, 1)] == [text(page, i) for i in (0, 1)]
    assert rows(other) == rows(page)
    assert columns(other) == columns(page)
    other.locator(".tab-b").click()
    expect(number(other, "temperature")).to_have_value("1.5")
    expect(other.locator("#preset")).to_have_value("llama_cpp")
    assert other.complaints == []
    other.close()


UNREADABLE = (
    *("#a={", "#a={}", '#a={"order":"no","body":{}}', "#prompt=x", "#%", "#at=9&seed=x"),
    '#a={"order":"default","body":{}}&text_a=5.49152',
)


def test_an_address_that_cannot_be_read_changes_nothing(browser, served):
    page = open_page(browser, served.url + UNREADABLE[0])
    before = rows(page)
    for fragment in UNREADABLE:
        page.goto(served.url + fragment)
        page.wait_for_timeout(100)
        expect(page.locator("#prompt")).to_have_value(PROMPT)
        assert rows(page) == before
    assert page.complaints == []
    page.close()


def test_a_value_out_of_range_has_the_librarys_message_at_its_field(page):
    before = rows(page)
    put(page, "min_p", 1.5)
    error = page.locator('[data-name="min_p"] .error')
    expect(error).to_have_text("min_p must be in [0, 1], not 1.5")
    expect(number(page, "min_p")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#table")).to_have_class(re.compile("stale"))
    assert rows(page) == before
    put(page, "top_k", -1)
    expect(page.locator(".error:visible")).to_have_count(2)
    put(page, "min_p", 0.5)
    put(page, "top_k", 0)
    expect(page.locator(".error:visible")).to_have_count(0)
    assert rows(page) != before


def test_a_row_that_is_emptied_says_by_what(page):
    for name in ("allowed_tokens", "banned_tokens"):
        adder = page.get_by_label(f"add to {name}")
        adder.fill("42")
        settle(page, lambda adder=adder: adder.press("Enter"))
    expect(page.locator("#status")).to_contain_text("no finite logit is left after banned_tokens")
    page.locator("#step").click()
    expect(page.locator(".word:not(.end)")).to_have_count(0)


def test_lists_of_tokens_phrases_texts_and_biases(page, model):
    best = page.locator("tr[data-token]").first.get_attribute("data-token")
    text_of = model.tokenizer.decode([int(best)])
    adder = page.get_by_label("add to banned_tokens")
    adder.fill(text_of)
    settle(page, lambda: adder.press("Enter"))
    expect(page.locator(f'tr[data-token="{best}"]')).to_contain_text("✕ banned_tokens")
    settle(page, page.get_by_role("button", name=f"remove {text_of} from banned_tokens").click)
    adder = page.get_by_label("add to logit_bias")
    adder.fill(best)
    settle(page, lambda: adder.press("Enter"))
    settle(page, lambda: page.get_by_label(f"bias of {text_of}").fill("-80"))
    assert "logit_bias" in columns(page)
    for name, phrase in (("bad_words", "sea lions"), ("stop", "\\n<b>x</b>")):
        adder = page.get_by_label(f"add to {name}", exact=True)
        adder.fill(phrase)
        settle(page, lambda adder=adder: adder.press("Enter"))
    page.locator("#share").click()
    body = json.loads(page.locator("#share-body").input_value())
    assert body["logit_bias"] == {best: -80}
    assert body["bad_words"] == [model.tokenizer.encode("sea lions")]
    assert body["stop"] == ["\\n<b>x</b>"]
    expect(page.locator(".chips b")).to_have_count(0)


def test_a_watermark_has_its_options_and_decides_the_draw(page):
    item = page.locator('#request [data-name="watermark"]')

    def to(option, value):
        settle(page, lambda: item.get_by_label(f"watermark {option}", exact=True).fill(value))

    settle(page, page.locator("#all-off").click)  # XTC has its own draw, of the seed
    to("key", "42")
    status, head = page.locator("#status"), page.locator(".draw-head")
    expect(status).to_contain_text("key decides")
    expect(head).to_contain_text("keyed arrival")
    before = drawn(page), rows(page)
    settle(page, page.locator("#new-seed").click)
    assert (drawn(page), rows(page)) == before
    to("context_width", "65")
    fault = item.locator(".error")
    expect(fault).to_have_text("watermark.context_width must be in [1, 64], not 65")
    to("context_width", "")
    settle(page, lambda: item.get_by_label("watermark scheme").select_option("sbw"))
    to("delta", "3")
    assert "green_list" in columns(page)
    expect(status).not_to_contain_text("key decides")  # it raises logits, the seed draws
    page.locator("#share").click()
    body = json.loads(page.locator("#share-body").input_value())
    assert body["watermark"] == {"key": 42, "scheme": "sbw", "delta": 3}
    page.keyboard.press("Escape")
    settle(page, page.locator("#all-off").click)
    expect(item.get_by_label("watermark key", exact=True)).to_have_value("")
    page.locator('[data-name="green_list"] .name').click()
    expect(page.locator('[data-name="green_list"]').get_by_label("watermark alpha")).to_be_visible()


def test_a_text_that_has_ended_says_why(page, model):
    """Forced tokens are a sequence, with each of its repetitions."""
    adder = page.get_by_label("add to forced_output_tokens")
    adder.fill(" one two one two one two")
    settle(page, lambda: adder.press("Enter"))
    page.locator('[data-name="reasoning"] .name').click()
    for option, value in (("max_pattern_size", "4"), ("min_count", "3")):
        label = f"repetition_detection {option}"
        settle(page, lambda label=label, value=value: page.get_by_label(label).fill(value))
    write(page, 6)
    assert text(page).strip().endswith("two one two one two")
    expect(page.locator("#status")).to_contain_text("the text has ended: it repeats itself")
    stop = page.get_by_label("add to stop", exact=True)
    stop.fill("two")
    settle(page, lambda: stop.press("Enter"))
    expect(page.locator("#status")).to_contain_text("the text has ended by two")
    expect(page.locator("#status")).to_contain_text("kept (")


def test_a_text_in_a_pasted_body_becomes_tokens(page, model):
    page.locator("#share").click()
    page.locator("#share-body").fill('{"reasoning_end": "</think>", "reasoning_budget": 0}')
    settle(page, page.locator("#share-apply").click)
    assert drawn(page) is not None
    expect(page.locator('[data-field="reasoning_end"] li')).to_have_count(
        len(model.tokenizer.encode("</think>"))
    )


def test_tokens_that_are_no_plain_text_can_be_seen(page, model):
    tokenizer = model.tokenizer
    newline = tokenizer.encode("\n")[0]
    part = tokenizer.encode("🐳")[0]
    wanted = {newline: "↵", part: "\u2039F0 9F\u203a", tokenizer.eos[0]: "<|im_end|>"}
    wanted |= {tokenizer.encode("<")[0]: "<", tokenizer.encode(" a")[0]: "·a"}
    assert tokenizer.token_bytes(part) == b"\xf0\x9f"
    adder = page.get_by_label("add to allowed_tokens")
    adder.fill(",".join(map(str, wanted)))
    settle(page, lambda: adder.press("Enter"))
    for token, shown in wanted.items():
        expect(page.locator(f'tr[data-token="{token}"] .token')).to_have_text(shown)


def test_keyboard_alone(page, model):
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    settle(page, lambda: page.keyboard.press("s"))
    assert text(page) == written(model, BODY, 1)
    settle(page, lambda: page.keyboard.press("u"))
    assert text(page) == ""
    page.locator("#table").focus()
    page.keyboard.press("Tab")
    first = page.locator("tr[data-token]").first
    expect(first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    third = page.locator("tr[data-token]").nth(2)
    expect(third).to_be_focused()
    expect(third).to_have_attribute("aria-selected", "true")
    expect(page.locator("#fate .token")).to_have_text(third.locator(".token").text_content())
    settle(page, lambda: page.keyboard.press("s"))
    page.locator(".word.current").focus()
    settle(page, lambda: page.keyboard.press("ArrowLeft"))
    expect(page.locator('.word[data-place="0"]')).to_be_focused()
    settle(page, lambda: page.keyboard.press("c"))
    expect(page.locator("#compare")).to_have_attribute("aria-pressed", "true")
    page.locator("#help").press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).not_to_be_visible()


def test_letters_in_a_field_are_letters(page):
    page.locator("#prompt").fill("")
    page.locator("#prompt").press_sequentially("scurw")
    expect(page.locator("#prompt")).to_have_value("scurw")
    assert text(page) == ""


def test_docs_of_a_control(page):
    page.locator('[data-name="xtc"] .name').click()
    page.get_by_role("button", name="docs of xtc").click()
    expect(page.locator("dialog")).to_contain_text("Exclude top choices.")
    expect(page.locator("dialog table")).to_contain_text("exllamav2")


def test_nothing_jumps_when_a_slider_moves(page):
    def places():
        watched = ("#table", "#fate", '[data-name="xtc"]', "#step", ".stages thead th >> nth=2")
        return [page.locator(x).bounding_box() for x in watched]

    before = places()
    for value in (0.0001, 0.2, 0.9):
        put(page, "min_p", value)
        assert places() == before


@pytest.mark.parametrize("width", [900, 1280])
def test_the_page_fits(browser, served, width):
    page = open_page(browser, served.url, width=width, height=700, trusted=False)
    size = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollHeight]")
    assert size == [width, 700]
    for name in ("#step", "#new-seed", "#fate", "#share"):
        expect(page.locator(name)).to_be_in_viewport(ratio=1)
    page.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_accessible_in_light_and_dark(browser, served, dark):
    page = open_page(browser, served.url, dark=dark, trusted=False)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 64) == dark
    check_accessible(page)
    page.locator("#compare").click()
    put(page, "top_k", 2)
    write(page, 2)
    put(page, "dry", 0.5, "dry_multiplier")
    page.locator('[data-name="dry"] .name').click()
    put(page, "min_p", 3)
    check_accessible(page, stale=True)
    page.locator("#share").click()
    check_accessible(page, stale=True)
    page.close()


def check_accessible(page, stale=False):
    """No violation of WCAG 2.2 A and AA that axe finds; what is out of date may be pale."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = {"runOnly": {"type": "tag", "values": tags}}
    context = {"exclude": [["#table"]]} if stale else None
    found = Axe().run(page, context=context, options=options).response["violations"]
    assert [(x["id"], x["nodes"][0]["html"][:200]) for x in found] == []


def test_a_slider_is_followed(served, browser):
    """Print how fast, and hold the server to what it is about: a chain, not a model."""
    from latency import measure

    figures = measure(browser, served.url, moves=20)
    print(figures)
    assert np.median(figures["model"]) < 1
    assert np.median(figures["chain"]) < 100
