"""The text, the Markdown and what the page says without photos: golden, and no number that the JSON does not hold.

The terminal's has 80 columns of ASCII.

`UPDATE_GOLDEN=1 pytest tests/verdict/test_text.py` writes the golden files anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llama_assets.verdict import headline, render_html, render_markdown, render_text
from llama_assets.verdict.album import caption
from llama_assets.verdict.sentences import follow_up, pair_sentence
from llama_assets.verdict.truth_sentences import model_sentence
from llama_assets.verdict.truth_sentences import pair_sentence as truth_pair_sentence
from llama_assets.verdict.warning_texts import effect_text

from .states import ALL, Judged

GOLDEN = Path(__file__).with_name("golden")
FIXED = {5.0, 90.0, 30.0, 10.0, 100.0}  # margins, the level of equivalence, the fewest photos, the top N


@pytest.mark.parametrize("state", ALL)
def test_the_terminal_text_is_the_golden_one(judged: Judged, state: str) -> None:
    is_golden(f"{state}.txt", render_text(judged(state)))


@pytest.mark.parametrize("state", ALL)
def test_the_terminal_text_has_80_ascii_columns(judged: Judged, state: str) -> None:
    text = render_text(judged(state))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("state", ALL)
def test_no_output_says_faster_or_significant(judged: Judged, state: str) -> None:
    j = judged(state)
    for text in (render_text(j), render_markdown(j)):
        assert not re.search(r"\b(faster|slightly|clearly|significant)", text)


def numbers(value: Any) -> Iterator[float]:
    """Every number of JSON values, as it is, in percent, and as a change in percent."""
    if isinstance(value, dict):
        for below in value.values():
            yield from numbers(below)
    elif isinstance(value, list):
        for below in value:
            yield from numbers(below)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from (abs(value), abs(100 * value), abs(100 * (value - 1)))
    elif isinstance(value, str):
        yield from (float(x) for x in re.findall(r"\d+(?:\.\d+)?", value))


def told(text: str, known: set[float]) -> list[str]:
    """Numbers of a text that are none of the known, rounded as they are printed."""
    strange = []
    for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text):
        decimals = len(found.partition(".")[2])
        value, half = float(found.replace(",", "")), 0.5 * 10**-decimals + 1e-9
        if not any(abs(value - x) <= half or (value == 0.1 and x < 0.1) or (value == 99.9 and x > 99.9) for x in known):
            strange.append(found)
    return strange


@pytest.mark.parametrize("state", ALL)
def test_every_number_of_a_sentence_is_in_the_json(judged: Judged, state: str) -> None:
    j = judged(state)
    found = j.to_json()
    for pair, values in zip(j.pairs, found["pairs"], strict=True):
        assert told(pair_sentence(j, pair), set(numbers(values)) | FIXED) == []
    for warned, values in zip(j.warnings, found["warnings"], strict=True):
        assert told(f"{warned.detail} {effect_text(warned)}", set(numbers(values["figures"])) | FIXED) == []
    for name, one in j.truth.items():
        told_by = set(numbers(found["truth"][name])) | FIXED
        for pair in one.pairs:
            assert told(truth_pair_sentence(pair), told_by) == []
        for model, figures in one.models.items():
            assert told(model_sentence(name, model, figures), told_by | {0.001}) == []
    sources = {key: found[key] for key in ("pairs", "models", "truth")}
    everything = set(numbers(sources)) | FIXED | {1000.0}
    assert told(" ".join([headline(j), *follow_up(j)]), everything) == []


def test_the_test_above_can_fail() -> None:
    assert told("41 % less", {40.2}) == ["41"]


def test_markdown_holds_no_photo_and_no_answer(judged: Judged) -> None:
    for state in ALL:
        text = render_markdown(judged(state))
        assert "photo-0" not in text
        assert "sees it" not in text
        assert text.count("<details") == text.count("</details>")


def test_a_foreign_name_cannot_break_the_markdown_table(tmp_path: Path) -> None:
    from llama_assets.verdict import judge

    from .sessions import Recipe, write_csv

    recipe = Recipe(models=("a|b", "<script>"), photos=40)
    text = render_markdown(judge([write_csv(tmp_path / "old.csv", recipe, ["model", "photo", "seconds"])]))
    fenced = text.split("```")
    assert len(fenced) == 3
    assert "<script>" not in fenced[0] + fenced[2]
    assert "a\\|b" in text


@pytest.mark.parametrize("state", ALL)
def test_the_markdown_is_the_golden_one(judged: Judged, state: str) -> None:
    is_golden(f"{state}.md", render_markdown(judged(state)))


@pytest.mark.parametrize("state", ["better", "worse", "equivalent", "inconclusive", "stopped"])
def test_what_the_page_without_photos_says_is_the_golden_text(judged: Judged, state: str) -> None:
    page = render_html(judged(state), photos=False)
    is_golden(f"{state}.page.txt", said(page))


@pytest.mark.parametrize("state", ALL)
def test_the_page_without_photos_holds_no_photo_no_name_of_one_and_no_caption(judged: Judged, state: str) -> None:
    j = judged(state)
    page = render_html(j, photos=False)
    assert "data:image" not in page
    assert "<img" not in page
    captions = {caption(row.answer_json) for arm in j.evidence.arms.values() for row in arm.rows}
    captions = {one for one in captions if "sees it" in one}  # `Photo 7` alone is also the number of a photo
    assert [name for name in (*j.evidence.photos, *captions) if name in page] == []
    if state == "better":
        with_them = render_html(j)
        assert any(one in with_them for one in captions)  # there was something to leave out


@pytest.mark.parametrize("state", ALL)
def test_every_number_in_the_pages_tables_is_in_the_json(judged: Judged, state: str) -> None:
    j = judged(state)
    found = j.to_json()
    known = set(numbers({key: found[key] for key in ("pairs", "models", "ranking", "truth")})) | FIXED
    tables = re.findall(r'<table class="(?:against|figures|alike)".*?</table>', render_html(j), flags=re.S)
    assert tables
    cells = [cell for table in tables for cell in re.findall(r"<td\b[^>]*>(.*?)</td>", table, flags=re.S)]
    strange = {}
    for cell in cells:
        text = re.sub(r"<svg.*?</svg>|<[^>]*>", " ", cell, flags=re.S)
        if more := told(text, known | {float(j.session.photos)}):
            strange[text] = more
    assert strange == {}


@pytest.mark.parametrize("state", ALL)
def test_the_failures_of_every_output_are_those_of_the_json(judged: Judged, state: str) -> None:
    j = judged(state)
    found = j.to_json()["models"]
    text, page = " ".join(render_text(j).split()), render_html(j)
    row = re.findall(r'<th scope="row">Failures<small>.*?</small></th>(.*?)</tr>', page)[0]
    for model, cell in zip(found, re.findall(r"<td>(.*?)</td>", row), strict=True):
        failures = {kind.replace("_", " "): count for kind, count in found[model]["failures"].items()}
        in_cell = {kind: int(count) for count, kind in re.findall(r"(\d+) ([a-z ]+)", cell)}
        assert in_cell == failures
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items(), key=lambda one: -one[1]))
        assert bool(failures) == (f"failures {model}, of {found[model]['rows']} rows: {listed}" in text)


class _Said(HTMLParser):
    """The words of a page, a line a block; a figure by its description."""

    BLOCKS = frozenset(
        {"p", "h1", "h2", "h3", "li", "tr", "dt", "dd", "summary", "caption", "figcaption", "pre", "nav"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[list[str]] = [[]]
        self.silent: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.silent:
            return
        if tag in ("style", "svg"):
            self.silent = tag
            if label := dict(attrs).get("aria-label"):
                self.lines[-1].append(f"[{label}]")
        elif tag in self.BLOCKS:
            self.lines.append(["#" * int(tag[1])] if tag in ("h1", "h2", "h3") else [])
        elif tag in ("td", "th") and self.lines[-1]:
            self.lines[-1].append("|")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.silent:
            self.silent = None
        elif tag in self.BLOCKS:
            self.lines.append([])

    def handle_data(self, data: str) -> None:
        if not self.silent and data.strip():
            self.lines[-1].append(data)


def said(page: str) -> str:
    """What a page says from top to bottom, without its looks."""
    parser = _Said()
    parser.feed(page)
    lines = (" ".join(" ".join(line).split()) for line in parser.lines)
    return "".join(f"{line}\n" for line in lines if line)


def is_golden(name: str, text: str) -> None:
    """Compares with a golden file, or writes it."""
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
