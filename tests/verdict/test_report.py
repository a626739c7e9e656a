"""The page: one file without script or network, one order in every state, foreign text escaped, photos if asked."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from llama_assets.verdict import Judgement, judge, render_html, render_markdown, render_text, timeline
from llama_assets.verdict.warning_texts import effect_text

from .sessions import Recipe, rows, write
from .states import ALL, Judged
from .test_text import FIXED, numbers, told

ORDER = ["incumbent", "warnings", "not-judged", "arms", "time", "spread", "ranks", "truth"]
ORDER += ["photos", "lease", "fixed", "repeat"]
VOID = {"meta", "img", "br", "input", "link", "hr"}
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


class Page(HTMLParser):
    """What a page holds, and whether its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if found.get("id") else []
        self.links += [str(found[key]) for key in ("href", "src") if found.get(key)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}>"


@pytest.mark.parametrize("state", ALL)
def test_a_page_is_whole_and_needs_nothing_else(judged: Judged, state: str) -> None:
    text = render_html(judged(state))
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in page.links)
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert len(text) < 300_000
    assert "viewBox" not in text


@pytest.mark.parametrize("state", ALL)
def test_sections_keep_their_order_and_every_link_has_its_place(judged: Judged, state: str) -> None:
    page = Page(render_html(judged(state)))
    sections = [one for one in page.ids if one in ORDER]
    assert sections == ORDER  # nothing moves or vanishes with the outcome
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


@pytest.mark.parametrize("state", ALL)
def test_every_figure_is_well_formed_and_says_what_it_shows(judged: Judged, state: str) -> None:
    text = render_html(judged(state))
    figures = re.findall(r'<svg class="fig.*?</svg>', text, flags=re.S)
    assert figures
    for figure in figures:
        tree = ET.fromstring(figure)
        assert tree.get("role") == "img"
        assert tree.get("aria-label")
        assert not re.search(r"nan|inf", re.sub(r"<(title|desc)>.*?</\1>|aria-label=\"[^\"]*\"", "", figure))


@pytest.mark.parametrize("state", ALL)
def test_the_heading_of_a_figure_is_a_sentence_whose_numbers_are_in_the_json(judged: Judged, state: str) -> None:
    j = judged(state)
    found = j.to_json()
    known = set(numbers({key: value for key, value in found.items() if key != "not_judged"})) | FIXED
    figures = re.sub(
        r'<section>\n<h2 id="(warnings|not-judged|truth|photos)".*?</section>', "", render_html(j), flags=re.S
    )
    headings = re.findall(r"<h3>(.*?)</h3>", figures, flags=re.S)
    assert len(headings) >= 3
    for heading in headings:
        text = unescape(re.sub(r"<[^>]*>", "", heading))
        if text in j.models:  # the name of a panel
            continue
        assert text.endswith(".")
        for model in j.models:
            text = text.replace(model, "")
        text = re.sub(r"(\d+ h )?(\d+ min )?\d+ (s|min)\b;", "", text)  # the lease by the clock
        assert told(text, known) == []


def test_what_is_said_of_several_arms_is_said_once(judged: Judged) -> None:
    j = judged("stopped")
    text = render_html(j)
    section = re.findall(r'<h2 id="warnings">.*?</section>', text, flags=re.S)[0]
    assert f"{len(j.warnings)} warnings" in section
    kinds = {(w.code, w.todo) for w in j.warnings}
    assert section.count("What to do</dt>") == len(kinds) < len(j.warnings)
    assert section.count("so drift and arm cannot be told apart") == 1
    page = unescape(re.sub(r"<[^>]*>", "", section))
    for warned in j.warnings:
        for sentence in re.split(r"(?<=[.]) (?=[A-Z])", warned.detail.replace("`", "")):
            assert sentence in page
        assert effect_text(warned).replace("`", "") in page
    drift = re.findall(r'<h2 id="time">.*?</section>', text, flags=re.S)[0]
    assert re.sub(r"<svg.*?</svg>", "", drift, flags=re.S).count("slower over third") == 1


def test_of_a_hash_the_first_digits_stand_in_the_tables_and_the_whole_is_folded(judged: Judged) -> None:
    text = render_html(judged("better"))
    folded = "".join(re.findall(r"<details.*?</details>", text, flags=re.S))
    tables = re.sub(r"<details.*?</details>", "", text, flags=re.S)
    for whole in ("ef" * 32, "cd" * 32):
        assert whole in folded
        assert whole not in tables
        assert f"{whole[:12]}…" in tables


def test_the_name_of_a_photo_and_an_answer_are_cut_at_120_characters(tmp_path: Path) -> None:
    made = rows(Recipe(models=("a", "b"), photos=40))
    for row in made:
        row["photo"] = f"{row['photo']}-{'long' * 100}"
        said = {"instagram_fit_score": row["position"] % 10 + 1, "suggested_caption": "word " * 100}
        row["answer_text"] = json.dumps(said)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    (tmp_path / "session.json").write_text(json.dumps({"ranking_key": "instagram_fit_score"}))
    text = render_html(judge(tmp_path / "rows.jsonl", session=tmp_path / "session.json"), tmp_path)
    assert "longlong" in text
    assert "word word" in text
    for cut in re.findall(r"photo-\d+.jpg-[long]+…|(?:word ?)+…", text):
        assert len(cut) == 120
    assert "long" * 40 not in text
    assert "word " * 40 not in text


def test_the_same_judgement_gives_the_same_page(judged: Judged) -> None:
    j = judged("better")
    assert render_html(j) == render_html(j)


def test_what_models_and_files_say_is_escaped(tmp_path: Path) -> None:
    evil = '<img src=x onerror="alert(1)">'
    made = rows(Recipe(models=("a", evil), photos=40))
    for row in made:
        row["photo"] = f"</b>{row['photo']}<script>"
        row["answer_text"] = json.dumps({"instagram_fit_score": row["position"] % 10 + 1, "suggested_caption": evil})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    told = {"incumbent": "a", "ranking_key": "instagram_fit_score", "arms": {evil: {"mmproj": evil}}, "note": evil}
    (tmp_path / "session.json").write_text(json.dumps(told))
    text = render_html(judge(tmp_path / "rows.jsonl", session=tmp_path / "session.json"), tmp_path)
    assert "<img src=x" not in text
    assert "<script" not in text
    assert Page(text).open == []


def test_thumbnails_and_captions_are_in_the_page_only_if_asked(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe(ratios=(1, 0.9, 0.6)))
    (folder / "thumbs").mkdir()
    for number in range(1, 101):
        (folder / "thumbs" / f"{number}.jpg").write_bytes(JPEG)
    j = judge(folder)
    with_photos, without = render_html(j, folder), render_html(j, folder, photos=False)
    assert with_photos.count(base64.b64encode(JPEG).decode()) == 6
    assert "sees it" in with_photos
    assert "photo-0" in with_photos
    for private in ("data:image", "sees it", "photo-0"):
        assert private not in without.replace("img-src data:", "")
    assert re.search(r"<b>Photo \d+</b>", without)


def test_a_thumbnail_outside_the_session_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    photos = [{"name": f"photo-{n:03d}.jpg", "thumb": "../secret.jpg"} for n in range(100)]
    folder = write(tmp_path / "s", Recipe(), photos=photos)
    assert "data:image" not in render_html(judge(folder), folder)


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_colours_keep_their_contrast_in_light_and_dark() -> None:
    """WCAG: 4.5 for text, 3 for what carries meaning in a figure."""
    import llama_assets.verdict.report as report

    css = (report.TEMPLATES / "report.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in css.split("@media screen", 1))
    for palette in (light, dark):
        for name in ("ink", "dim", "link"):
            assert contrast(palette[name], palette["paper"]) >= 4.5, name
        assert contrast(palette["note"], palette["notebg"]) >= 4.5
        for name in ("edge", "arm0", "arm1", "arm2", "arm3", "arm4"):
            assert contrast(palette[name], palette["paper"]) >= 3, name


def test_what_an_answer_is_worth_stands_a_step_at_a_time_with_the_failures_by_name(tmp_path: Path) -> None:
    recipe = Recipe(models=("a", "b"), wrong_typed={"b": 5}, failed={"b": 3})
    j = judge(write(tmp_path / "s", recipe))
    figures = j.models["b"]
    steps = {
        "HTTP ok": figures.http_ok,
        "Complete": figures.complete,
        "JSON": figures.parsed_rate,
        "Schema-valid": figures.schema_valid,
    }
    text = render_html(j)
    for label, rate in steps.items():
        cells = re.findall(rf'<th scope="row">{label}<small>.*?</tr>', text)[0]
        assert f"<td>{rate.count} of 100<small>{rate.low:.1%}".replace("%", "") in cells, label
    failures = re.findall(r'<th scope="row">Failures<small>.*?</tr>', text)[0]
    for kind, count in figures.failures.items():
        assert f"{count} {kind.replace('_', ' ')}" in failures
    assert figures.failures["error"] == 3
    assert "<td>none</td>" in failures
    markdown = render_markdown(j)
    assert "| failures | none | " in markdown
    assert f"| HTTP ok | 100 of 100 (96.3 to 100 %) | {figures.http_ok.count} of 100" in markdown
    assert "failures  b, of 100 rows: " in render_text(j)


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    """Seven arms of 150 rows, more than 1,000 in all."""
    recipe = Recipe(models=[f"model-{n}" for n in range(7)], photos=150, ratios=[1 + 0.1 * n for n in range(7)])
    return judge(write(tmp_path_factory.mktemp("seven") / "s", recipe))


def test_from_the_sixth_arm_on_each_has_its_colour_alone_before_the_rest_in_grey(seven: Judgement) -> None:
    text = render_html(seven)
    assert len(text) < 300_000
    time = text[text.index('<h2 id="time">') : text.index('<h2 id="spread">')]
    figures = re.findall(r'<svg class="fig.*?</svg>', time, flags=re.S)
    assert len(figures) == 2 * len(seven.models)  # seconds, and seconds a token
    for place, figure in enumerate(figures):
        index, name = place // 2, "token" if place % 2 else "time"
        assert f"model-{index} against the rest in grey" in figure
        assert len(set(re.findall(r'class="(?:middle )?a(\d)"', figure))) == 1
        others = [f"#{name}{other}" for other in range(7) if other != index]
        assert re.findall(rf'href="(#{name}\d)"', figure) == others
    for name in ("time", "token"):
        groups = re.findall(rf'<g id="{name}\d" class="rest">(.*?)</g>', text)
        assert [group.count("<circle") for group in groups] == [16] * 7  # four in each of four blocks of 37 or 38
    assert set(Page(text).ids) >= {f"{name}{n}" for name in ("time", "token") for n in range(7)}


def test_a_mark_stands_beside_its_arms_name_wherever_looks_repeat(seven: Judgement) -> None:
    text = render_html(seven)
    assert 'class="legend"><span><span class="key' not in text  # a legend of repeated looks would tell nothing
    for key in re.findall(r'<span class="key name">.*?</span>', text, flags=re.S):
        assert re.search(r"</svg>model-\d</span>$", key)
    drawn = re.findall(r'href="#M(\d)" x="7" y="7" class="a\1"/></svg>(model-\d)', text)
    assert {name for _, name in drawn} == set(seven.models)


@pytest.mark.parametrize(("photos", "marks"), [(500, 1_000), (501, 104)])
def test_above_a_thousand_answers_a_mark_is_the_median_of_ten_of_a_block_and_says_so(
    tmp_path: Path, photos: int, marks: int
) -> None:
    recipe = Recipe(models=("a", "b"), photos=photos, blocks=4)
    j = judge(write(tmp_path / "s", recipe))
    found = [
        (float(x), float(y))
        for x, y in re.findall(r'<use href="#m0" x="([\d.]+)%" y="([\d.]+)" class="a0"/>', timeline.timeline(j))
    ]
    assert 2 * len(found) == marks
    assert ("A mark is the median of 10 answers at most" in render_html(j)) == (photos > 500)
    if photos > 500:
        arm, axis = j.evidence.arms["a"], timeline.axis_of(j)
        blocks = [arm.started[arm.block == block] for block in np.unique(arm.block)]
        middles = [axis.scale.at(float(np.median(b[n : n + 10]))) for b in blocks for n in range(0, len(b), 10)]
        assert [x for x, _ in found] == pytest.approx(middles, abs=0.01)
