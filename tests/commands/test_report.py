"""The report in a real browser: it sorts, it is quiet, it fits, and no request leaves it."""

import os
import shutil

import numpy as np
import pytest

from fewshot.gallery import Example, ExampleClass, ExampleQuery, encode_picture
from fewshot.results.report import write_report
from run_meta_dataset import main
from tests.stored_rows import fill_folder

pytest.importorskip("matplotlib")

SOURCES = ("ilsvrc_2012", "omniglot", "aircraft", "cu_birds", "dtd", "quickdraw", "fungi")
SKILLS = {
    (head, source): 0.3 + 0.1 * place + 0.02 * len(source)
    for place, head in enumerate(("prototypical", "finetune", "sur <img src=http://x.invalid>"))
    for source in SOURCES
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    place = tmp_path_factory.mktemp("report")
    fill_folder(place / "run", SKILLS, 30)
    flags = ["--out", place / "report.html", "--figures", place / "figures", "--title", "Mine"]
    assert main(["report", str(place / "run"), *map(str, flags)]) == 0
    return place / "report.html"


def test_the_files(report, capsys):
    assert "<h1>Mine</h1>" in report.read_text(encoding="utf-8")
    names = {path.name for path in (report.parent / "figures").iterdir()}
    stems = (
        "bars", "differences", "critical_difference", "ways_and_shots", "ways_by_source",
        "shots_by_source",
    )  # fmt: skip
    assert names == {f"{stem}.{form}" for stem in stems for form in ("svg", "pdf")}
    assert main(["report", str(report.parent / "none")]) == 2


@pytest.fixture(scope="module")
def browser():
    """Chromium, where playwright and a browser are installed; else these tests are skipped."""
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, report):
    """Opens the page; what it said on the console and what it asked for."""
    contexts = []

    def open_page(width=1200, scheme="light"):
        view = {"width": width, "height": 800}
        context = browser.new_context(viewport=view, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        return page, said, asked

    yield open_page
    for context in contexts:
        context.close()


def test_it_is_quiet_and_asks_for_nothing(visit, report):
    for scheme in ("light", "dark"):
        page, said, asked = visit(scheme=scheme)
        page.wait_for_load_state("networkidle")
        assert said == [] and [url for url in asked if not url.startswith("data:")] == [
            report.as_uri()
        ]
        assert page.locator("img").count() == 0


def heads(page):
    return page.locator("table.sortable tbody th").all_inner_texts()


def test_headings_sort_by_mouse_and_by_keyboard(visit):
    page, said, _ = visit()
    best, worst = "sur <img src=http://x.invalid>", "prototypical"
    button = page.get_by_role("button", name="Omniglot")
    button.click()
    assert heads(page)[0] == best and heads(page)[-1] == worst
    cell = page.locator("table.sortable thead th").nth(3)
    assert cell.get_attribute("aria-sort") == "descending"
    button.focus()
    page.keyboard.press("Enter")
    assert heads(page)[0] == worst and cell.get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="Method").click()
    assert heads(page) == sorted(heads(page)) and said == []
    assert page.locator("th[aria-sort]").count() == 1


def test_it_fits_a_phone_and_follows_the_theme(visit):
    page, _, _ = visit(width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    colors = []
    for scheme in ("light", "dark"):
        page, _, _ = visit(scheme=scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = page.locator("#bars svg text").first
        colors.append((paper, text.evaluate("node => getComputedStyle(node).fill")))
    assert colors[0] == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")
    assert colors[1] == ("rgb(15, 18, 22)", "rgb(230, 233, 237)")


def test_the_keyboard_reaches_tables_and_figures(visit):
    page, _, _ = visit()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert {"Accuracy by source", "Paired differences", "Average ranks"} <= reached


def test_a_head_is_chosen_for_the_examples(browser, tmp_path):
    pixel = encode_picture(np.zeros((8, 8, 3), np.uint8))
    queries = tuple(ExampleQuery(pixel, {"sur": 0, "<b>": guess}) for guess in (0, 1))
    shown = ExampleClass(0, "cat", (pixel,), queries, (0, 3), {"sur": "2 of 2", "<b>": "1 of 2"})
    example = Example("dtd", 0, ("cat", "dog"), (shown,), {"sur": 1.0, "<b>": 0.5})
    path = tmp_path / "report.html"
    path.write_text(write_report([], "x", examples=[example])[0], encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    guesses = page.locator(".guess:visible")
    assert guesses.all_inner_texts() == ["✓", "✓"] and page.get_by_text("2 of 2").is_visible()
    page.get_by_role("radio", name="sur").focus()
    page.keyboard.press("ArrowRight")
    assert guesses.all_inner_texts() == ["✓", "✗ 2"] and page.get_by_text("1 of 2").is_visible()
    assert guesses.last.get_attribute("title") == "<b> guessed 2, dog"
    frames = [
        image.evaluate("node => getComputedStyle(node).outlineStyle")
        for image in page.locator(".query img").all()
    ]
    assert frames == ["solid", "dashed"]
    page.close()
