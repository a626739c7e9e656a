"""What every output promises, over many drawn sessions: width, letters, words, and no number that the JSON lacks.

Golden texts show a few states to the letter (`test_text`); here names are hostile and figures are anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from llama_assets.verdict import Judgement, headline, judge, metadata, render_html, render_markdown, render_text
from llama_assets.verdict.sentences import pair_sentence
from llama_assets.verdict.warning_texts import effect_text

from .sessions import record, rows
from .test_text import FIXED, numbers, told
from .wild import NAMES, drawn

SEEDS = range(1, 17)
FORBIDDEN = re.compile(r"\b(?:faster|significant\w*|slightly|clearly|obviously|dramatic\w*|huge\w*|tiny)\b", re.I)
FALSE = re.compile(r"(?<![\d.,])(?:0\.0+|-0|100\.0) %|[+-]0\.0\b|(?<![\d.,])0 % (?:less|more)")
CONSTANT = {1.0, 30.0, 95.0, 100.0, 400.0, 1000.0, 0.001}  # levels, and what it would take

Session = Callable[[int], Judgement]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The judgement of a drawn session; each is made once."""
    folder = tmp_path_factory.mktemp("wild")

    @cache
    def make(seed: int) -> Judgement:
        recipe, changed = drawn(seed)
        path, beside = folder / f"{seed}.jsonl", folder / f"{seed}.json"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(recipe)))
        beside.write_text(json.dumps(record(recipe, **changed)))
        return judge(path, session=beside)

    return make


@pytest.mark.parametrize("seed", SEEDS)
def test_the_terminal_has_80_columns_of_ascii_and_no_command_of_a_name(session: Session, seed: int) -> None:
    text = render_text(session(seed))
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert [letter for letter in text if letter != "\n" and not " " <= letter <= "~"] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_bold_changes_no_word(session: Session, seed: int) -> None:
    j = session(seed)
    assert re.sub(r"\x1b\[[01]m", "", render_text(j, bold=True)) == render_text(j)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_output_overstates_or_rounds_to_a_false_bound(session: Session, seed: int) -> None:
    j = session(seed)
    page = re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]*>", " ", render_html(j, photos=False), flags=re.S)
    for text in (render_text(j), render_markdown(j), page, headline(j)):
        assert FORBIDDEN.findall(text) == []
        assert FALSE.findall(text.replace("\N{MINUS SIGN}", "-")) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_every_number_of_the_text_and_the_markdown_is_in_the_json(session: Session, seed: int) -> None:
    j = session(seed)
    known = set(figures(j.to_json())) | FIXED | CONSTANT
    text = render_text(j)
    plot = re.search(r"\nseconds against .*?\n\n", text, flags=re.S)
    text = text.replace(plot.group(), "\n") if plot else text
    markdown = re.sub(r"```text.*?```", "", render_markdown(j), flags=re.S)
    for said in (text, markdown):
        assert told(without_names(said), known) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sentence_has_its_own_figures_only(session: Session, seed: int) -> None:
    j = session(seed)
    found = j.to_json()
    for pair, values in zip(j.pairs, found["pairs"], strict=True):
        assert told(without_names(pair_sentence(j, pair)), set(numbers(values)) | FIXED) == []
    for warned, values in zip(j.warnings, found["warnings"], strict=True):
        own = set(numbers(values["figures"])) | FIXED | {0.001}
        assert told(without_names(f"{warned.detail} {effect_text(warned)}"), own) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_row_of_an_arm_has_its_figures(session: Session, seed: int) -> None:
    j = session(seed)
    cells = re.findall(r"^.{15}( *[\d.,-]+){4}  (.{14})(.{9})  (\w*)$", render_text(j), flags=re.M)
    assert len(cells) == len(j.models)
    for (_, valid, _, word), (model, found) in zip(cells, j.models.items(), strict=True):
        pair = j.pair(model, "seconds")
        assert word == ("incumbent" if model == j.incumbent else pair.verdict if pair else "")
        share, _, run = valid.strip().partition(" ")
        assert share == f"{found.schema_valid.count}/{found.rows}"
        low, high = (int(end) for end in run.split("-"))
        assert (low == 0, high == 100) == (found.schema_valid.low == 0, found.schema_valid.high == 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_markdown_holds_no_photo_no_tag_of_a_name_and_opens_what_stops(session: Session, seed: int) -> None:
    j = session(seed)
    text = render_markdown(j)
    outside = re.sub(r"```text.*?```", "", text, flags=re.S)
    assert text.count("```") in (0, 2)
    assert re.findall(r"photo-\d|sees it|<b>|data:|://|\x1b", outside) == []
    assert set(re.findall(r"<[^>]*>", outside)) <= {
        "<details>", "<details open>", "</details>", "<summary>", "</summary>"
    }  # fmt: skip
    assert ("<details open>" in text) == bool(j.stops) == bool(j.exit_status)
    tables = re.findall(r"(?:^\|.*\|$\n?)+", outside, flags=re.M)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_metadata_is_flat_stable_and_all_numbers(session: Session, seed: int) -> None:
    j = session(seed)
    found = metadata(j)
    candidate = {"ratio", "ratio_low", "ratio_high", "valid_difference"}
    allowed = {f"{model}/{key}" for model in j.candidates for key in candidate}
    allowed |= {f"{model}/{key}" for model in j.models for key in ("auc", "auc_stars")}
    assert found.keys() <= allowed | {"warnings", "not_judged", "lease_efficiency"}
    assert all(type(value) in (int, float) for value in found.values())


def test_what_was_drawn_reaches_every_state(session: Session) -> None:
    """Else the tests above would say little."""
    all_of_them = [session(seed) for seed in SEEDS]
    assert {pair.verdict for j in all_of_them for pair in j.pairs if pair.metric == "seconds"} == {
        "better", "worse", "equivalent", "inconclusive"
    }  # fmt: skip
    assert {len(j.models) for j in all_of_them} >= {1, 2, 3, 7}
    assert len({warned.code for j in all_of_them for warned in j.warnings}) >= 11
    assert {bool(j.stops) for j in all_of_them} == {bool(j.truth) for j in all_of_them} == {True, False}


def without_names(text: str) -> str:
    """Names, entities and labels have digits of their own."""
    for name in NAMES:
        if re.search(r"\d", name):
            text = text.replace(name, "NAME")
    return re.sub(r"20261114T021500Z|sha256|llama-server, b11549|F16|Q8_0|\bp[59][05]\b|&#\d+;|\[31m", "", text)


def figures(found: dict[str, Any]) -> Iterator[float]:
    """Numbers of the JSON, not those in its sentences; a lease as a clock shows it, and how many there are."""
    for key in ("models", "pairs", "ranking", "truth", "session"):
        yield from numbers(found[key])
    for one in (*found["warnings"], *found["quiet"]):
        yield from numbers(one["figures"])
    for key in ("models", "warnings", "quiet", "not_judged"):
        yield float(len(found[key]))
    if lease := found["session"]["lease"]:
        whole = round(lease["seconds"])
        yield from (whole // 60, whole % 60, whole // 3600, whole % 3600 // 60)
