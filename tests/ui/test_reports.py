"""Reports in a real browser: axe finds nothing, nothing is wider than a phone, nothing is asked of any network.

Each state in light and dark, 1280 and 360 CSS pixels wide, with every fold open; without `--long` the two fullest pages
in two views. Not here: what stands in a page
(`tests/verdict/test_report.py`), the contrast of marks in figures, which axe cannot judge (there too).
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from llama_assets.verdict import judge, render_html
from llama_assets.verdict.history import LeftOut, read, render_history, stored
from tests.verdict import states
from tests.verdict.sessions import Recipe, write

TWO_VIEWS = [("light", 1280), ("dark", 360)]
ALL_VIEWS = [("light", 1280), ("light", 360), ("dark", 1280), ("dark", 360)]
FULLEST = ("stopped", "rated")
STATES = ("better", "worse", "equivalent", "inconclusive", "stopped", "one_arm", "rated")
FOLDS = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
FIND = """async () => {
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))]);
}"""
WIDE = """() => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5
  && !e.closest('.scroll') && !e.closest('svg')).slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def page(browser: Browser) -> Page:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_axe_does_find_a_picture_without_words(page: Page, axe: str) -> None:
    page.set_content("<html lang=en><title>a</title><main><h1>a</h1><img src='data:,'></main>")
    page.evaluate(axe)
    assert "image-alt" in [found[0] for found in page.evaluate(FIND)]


@pytest.mark.parametrize("state", FULLEST)
def test_axe_finds_nothing_in_the_fullest_reports(page: Page, axe: str, tmp_path: Path, state: str) -> None:
    look_at(page, axe, tmp_path, state, TWO_VIEWS)


@pytest.mark.long
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_in_a_report_in_any_view(page: Page, axe: str, tmp_path: Path, state: str) -> None:
    look_at(page, axe, tmp_path, state, ALL_VIEWS)


@pytest.mark.long
def test_axe_finds_nothing_in_a_report_of_seven_arms(page: Page, axe: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text(render_html(judge(seven(tmp_path / "s"))), encoding="utf-8")
    look_at_file(page, axe, report, ALL_VIEWS)


def seven(folder: Path) -> Path:
    """Seven arms, one with a name that is longer than a column."""
    arms = ("incumbent", "a-model-with-a-long-name-instruct-q4", *"cdefg")
    return write(folder, Recipe(models=arms, ratios=(1, 0.95, 0.6, 1.2, 1, 1.5, 0.8), photos=40))


def test_axe_finds_nothing_in_the_history_on_a_phone(page: Page, axe: str, tmp_path: Path) -> None:
    look_at_file(page, axe, history(tmp_path), TWO_VIEWS[1:])


@pytest.mark.long
def test_axe_finds_nothing_in_the_history_in_any_view(page: Page, axe: str, tmp_path: Path) -> None:
    look_at_file(page, axe, history(tmp_path), ALL_VIEWS)


def history(results: Path) -> Path:
    """Two questions, a border, a fold of older sessions, one of seven arms, one left out for a long reason."""
    judged, flawed = (stored(states.judgement(results / state, state)) for state in ("equivalent", "better"))
    sessions = []
    for month in range(1, 12):
        for day in (1, 15):
            told = judged["about"] | {"started": f"2026-{month:02d}-{day:02d}T02:00:00Z"}
            told |= {"question_hash": "a", "photo_set_hash": str(month // 6), "question_name": ""}
            sessions.append(read(judged | {"about": told}, f"{month}-{day}", report=day == 1))
    other = flawed["about"] | {"started": "2026-12-20T02:00:00Z", "question_name": "pets"}
    sessions.append(read(flawed | {"about": other}, "pets", report=True))
    of_seven = stored(judge(seven(results / "seven")))
    arms = of_seven["about"] | {"started": "2026-12-21T02:00:00Z", "question_name": ""}
    sessions.append(read(of_seven | {"about": arms}, "seven", report=True))
    path = results / "history.html"
    left_out = LeftOut("20261221T020000Z-half", f"cannot be read: /{'deep-' * 30}/session.json")
    path.write_text(render_history(sessions, [left_out]), encoding="utf-8")
    return path


def look_at(page: Page, axe: str, tmp_path: Path, state: str, views: list[tuple[str, int]]) -> None:
    report = tmp_path / "report.html"
    report.write_text(render_html(states.judgement(tmp_path, state)), encoding="utf-8")
    look_at_file(page, axe, report, views)


def look_at_file(page: Page, axe: str, report: Path, views: list[tuple[str, int]]) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: asked.append(message.text))
    page.goto(report.as_uri())
    page.evaluate(FOLDS)
    page.evaluate(axe)
    for scheme, width in views:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(FIND) == [], f"{scheme}, {width} wide"
        across = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert across[0] == across[1], f"{width} wide: {page.evaluate(WIDE)}"
    assert [one for one in asked if not one.startswith("data:")] == [report.as_uri()]


@pytest.mark.parametrize("state", FULLEST)
def test_on_paper_verdict_and_comparison_fit_one_sheet_and_every_fold_is_open(
    page: Page, tmp_path: Path, state: str
) -> None:
    report = tmp_path / "report.html"
    report.write_text(render_html(states.judgement(tmp_path, state)), encoding="utf-8")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 695, "height": 1013})  # A4 without its margins
    page.goto(report.as_uri())
    assert page.evaluate("document.querySelector('#incumbent').parentElement.getBoundingClientRect().bottom") <= 1013
    closed = page.evaluate("""[...document.querySelectorAll('details:not(.screen)')]
        .filter(fold => fold.lastElementChild.getBoundingClientRect().height < 8).length""")
    assert closed == 0
    torn = page.evaluate("""[...document.querySelectorAll('.warnings > li, h2, h3, tr, figure')]
        .filter(part => getComputedStyle(part).breakInside !== 'avoid').length""")
    assert torn == 0


def test_five_arms_of_300_rows_and_six_photos_fit_a_phone_and_300_kb(page: Page, tmp_path: Path) -> None:
    """Thumbnails of the largest size that a session keeps: 10 kB."""
    arms = tuple(f"arm-{number}" for number in range(5))
    photos = [{"name": f"photo-{n:03d}.jpg", "thumb": f"thumbs/{n}.jpg"} for n in range(1, 301)]
    folder = write(tmp_path / "s", Recipe(models=arms, ratios=(1, 0.9, 0.8, 1.1, 1.3), photos=300), photos=photos)
    (folder / "thumbs").mkdir(exist_ok=True)
    for n in range(1, 301):
        (folder / "thumbs" / f"{n}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(10_000))
    text = render_html(judge(folder), folder)
    assert text.count("data:image/jpeg") == 6
    assert len(text.encode()) < 300_000
    report = tmp_path / "report.html"
    report.write_text(text, encoding="utf-8")
    page.set_viewport_size({"width": 360, "height": 900})
    page.goto(report.as_uri())
    page.evaluate(FOLDS)
    assert page.evaluate("document.documentElement.scrollWidth") == 360, page.evaluate(WIDE)
