"""Does an arm's score agree with the person: who is a positive, the words, and what is said where it is unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from llama_assets.bench.ratings import read_ratings
from llama_assets.cli import main
from llama_assets.verdict import Judgement, judge, render_html, render_markdown, render_text
from llama_assets.verdict.judging import NoRatedPhoto

from .rated import Person, ratings, scores, write_rated, write_ratings
from .sessions import Recipe, write_csv
from .states import Judged

RECIPE = Recipe(models=("incumbent", "second"))
PERSON = Person(favourites=20, follows={"incumbent": 0.1, "second": 0.95})
WHICH = "Which model scores photos better"


def asked(j: Judgement) -> list[str]:
    return [x.question for x in j.not_judged]


def test_an_arm_is_measured_against_favourites_and_stars_as_scipy_measures_it(tmp_path: Path) -> None:
    j = judge(write_rated(tmp_path / "s", RECIPE, PERSON))
    given, said = scores(RECIPE, PERSON)["second"], ratings(RECIPE, PERSON).values()
    liked = np.array([one["favourite"] for one in said])
    stars = np.array([one["stars"] for one in said])
    by_heart, by_stars = (j.truth[name].models["second"] for name in ("favourites", "stars"))
    assert (by_heart.n, by_heart.positives, by_stars.positives) == (100, 20, int((stars >= 4).sum()))
    for found, positive in ((by_heart, liked), (by_stars, stars >= 4)):
        u = stats.mannwhitneyu(given[positive], given[~positive]).statistic
        assert found.auc == pytest.approx(u / (positive.sum() * (~positive).sum()))
        assert found.low is not None and found.high is not None
        assert found.low < (found.auc or 0) < found.high
        assert found.chance == pytest.approx(10 * positive.mean())
    assert by_stars.tau_b == pytest.approx(stats.kendalltau(given, stars).statistic)
    assert by_heart.tau_b is None


def test_the_arm_that_follows_the_person_is_better_and_the_recommendation_stays(tmp_path: Path) -> None:
    with_them = judge(write_rated(tmp_path / "with", RECIPE, PERSON))
    without = judge(write_rated(tmp_path / "without", RECIPE, PERSON, in_session=False))
    assert [pair.verdict for one in with_them.truth.values() for pair in one.pairs] == ["better", "better"]
    assert with_them.recommendation == without.recommendation
    assert with_them.pairs == without.pairs
    assert with_them.warnings == without.warnings
    assert without.truth == {}


def test_swapping_the_incumbent_turns_the_word(tmp_path: Path) -> None:
    folder = write_rated(tmp_path / "s", RECIPE, PERSON)
    (there,), (back,) = (judge(folder, incumbent=m).truth["favourites"].pairs for m in ("incumbent", "second"))
    assert (there.b, there.verdict, back.b, back.verdict) == ("second", "better", "incumbent", "worse")
    assert there.difference == pytest.approx(-(back.difference or 0))


def test_two_candidates_share_the_error(tmp_path: Path) -> None:
    j = judge(write_rated(tmp_path / "s", replace(RECIPE, models=("incumbent", "second", "third")), PERSON))
    assert [pair.level for pair in j.truth["favourites"].pairs] == [0.975, 0.975]


def test_the_question_is_answered_where_ratings_came_and_stays_where_they_did_not(tmp_path: Path) -> None:
    assert WHICH not in asked(judge(write_rated(tmp_path / "with", RECIPE, PERSON)))
    assert asked(judge(write_rated(tmp_path / "without", RECIPE, PERSON, in_session=False)))[0] == WHICH


def test_equal_arms_leave_the_pair_open_and_say_what_it_would_take(tmp_path: Path) -> None:
    person = replace(PERSON, starred=False, follows={"incumbent": 0.8, "second": 0.8})
    j = judge(write_rated(tmp_path / "s", RECIPE, person))
    (pair,) = j.truth["favourites"].pairs
    assert pair.verdict == "inconclusive"
    (open_question,) = [x for x in j.not_judged if "scores photos better" in x.question]
    assert open_question.question == "Whether second scores photos better than incumbent, by your favourites"
    assert "holds 0" in open_question.why
    assert "0.2 to 0.3" in open_question.would_take


@pytest.mark.parametrize(
    ("favourites", "note"), [(9, "9 favourites;"), (95, "5 photos that are no favourites;"), (1, "1 favourite;")]
)
def test_fewer_than_ten_of_a_side_give_figures_and_no_verdict(tmp_path: Path, favourites: int, note: str) -> None:
    j = judge(write_rated(tmp_path / "s", RECIPE, replace(PERSON, favourites=favourites, starred=False)))
    (pair,) = j.truth["favourites"].pairs
    assert pair.verdict is None
    assert pair.note is not None and pair.note.startswith(note)
    assert j.truth["favourites"].models["second"].auc is not None
    assert asked(j)[0] == WHICH
    assert f"favourites: {favourites} of 100 rated" in j.not_judged[0].why


def test_a_photo_of_which_nothing_was_said_is_on_neither_side(tmp_path: Path) -> None:
    one = judge(write_rated(tmp_path / "s", RECIPE, replace(PERSON, unsaid=30))).truth["favourites"]
    assert one.photos == 70
    assert {figures.n for figures in one.models.values()} == {70}


def test_only_favourites_and_no_other_photo_have_no_auc(tmp_path: Path) -> None:
    folder = write_rated(tmp_path / "s", RECIPE, PERSON, in_session=False)
    path = tmp_path / "ratings.csv"
    path.write_text("photo,favourite\n" + "".join(f"photo-{n:03d}.jpg,true\n" for n in range(20)))
    j = judge(folder, ratings=read_ratings(path))
    found = j.truth["favourites"].models["second"]
    assert (found.n, found.positives, found.auc, found.low, found.hits) == (20, 20, None, None, 10)
    assert "favourites: 20 of 20 rated" in j.not_judged[0].why


def test_ratings_of_a_file_replace_those_of_the_session(tmp_path: Path) -> None:
    other = replace(PERSON, favourites=30, starred=False)
    folder = write_rated(tmp_path / "s", RECIPE, PERSON)
    j = judge(folder, ratings=read_ratings(write_ratings(tmp_path / "ratings.csv", RECIPE, other)))
    assert list(j.truth) == ["favourites"]
    assert j.truth["favourites"].positives == 30


def test_ratings_of_other_photos_are_counted_and_none_of_these_is_an_error(tmp_path: Path) -> None:
    folder, path, said = write_rated(tmp_path / "s", RECIPE, PERSON), tmp_path / "ratings.csv", []
    path.write_text("photo,favourite\nphoto-001.jpg,true\nelse.jpg,true\n")
    judge(folder, ratings=read_ratings(path), say=said.append)
    assert any("1 of 2 ratings are of photos that the rows do not hold" in line for line in said)
    path.write_text("photo,favourite\nelse.jpg,true\n")
    with pytest.raises(NoRatedPhoto, match=r"'else\.jpg', rows 'photo-"):
        judge(folder, ratings=read_ratings(path))


def test_rows_without_scores_say_that_no_score_can_be_compared(tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "old.csv", RECIPE, ["model", "photo", "seconds"])
    j = judge([rows], ratings=read_ratings(write_ratings(tmp_path / "ratings.csv", RECIPE, PERSON)))
    assert asked(j)[0] == WHICH
    assert "no arm has a score" in j.not_judged[0].why
    assert j.truth["favourites"].models["second"].auc is None


def test_an_arm_that_scores_all_alike_is_at_one_half(tmp_path: Path) -> None:
    folder = write_rated(tmp_path / "s", RECIPE, PERSON)
    path = folder / "rows-incumbent.jsonl"
    answer = json.dumps({"instagram_fit_score": 7, "suggested_caption": "x"})
    made = [json.loads(line) | {"answer_text": answer} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    found = judge(folder).truth["favourites"].models["incumbent"]
    assert (found.auc, found.hits) == (0.5, pytest.approx(2.0))
    assert found.average_precision == pytest.approx(found.chance_average_precision)


def test_a_wrong_typed_rating_of_a_session_is_not_known(tmp_path: Path) -> None:
    folder = write_rated(tmp_path / "s", RECIPE, PERSON)
    told = json.loads((folder / "session.json").read_text())
    for photo, wrong in zip(told["photos"], ("yes", 1, "true"), strict=False):
        photo["favourite"] = wrong
    for photo, wrong in zip(told["photos"], (True, 6, 0, "4", 4.0), strict=False):
        photo["stars"] = wrong
    (folder / "session.json").write_text(json.dumps(told))
    j = judge(folder)
    assert (j.truth["favourites"].photos, j.truth["stars"].photos) == (97, 95)


def test_a_single_arm_is_measured_and_no_pair_is_asked_for(tmp_path: Path) -> None:
    j = judge(write_rated(tmp_path / "s", replace(RECIPE, models=("alone",)), PERSON))
    assert j.truth["favourites"].pairs == ()
    assert j.truth["favourites"].models["alone"].auc is not None
    assert WHICH not in asked(j)


def test_text_and_markdown_say_the_pair_without_a_word_and_why(tmp_path: Path) -> None:
    j = judge(write_rated(tmp_path / "s", RECIPE, replace(PERSON, favourites=9, starred=False)))
    text = " ".join(render_text(j).split())
    for shown in (text, render_markdown(j)):
        assert "favourites: 9 of 100 rated photos" in shown
        assert "second against incumbent has no verdict on your favourites" in shown
        assert "with 9 favourites; fewer than 10 allow no verdict" in shown
        assert "photo-0" not in shown


def test_figures_that_are_not_known_are_a_dash_in_text_and_markdown(tmp_path: Path) -> None:
    person = replace(PERSON, favourites=8, starred=False, unsaid=92)
    j = judge(write_rated(tmp_path / "s", replace(RECIPE, photos=100), person))
    assert j.truth["favourites"].photos == 8
    for shown in (render_text(j), render_markdown(j)):
        assert "cannot be compared" in " ".join(shown.split()) or "no verdict" in shown
    text = render_text(j)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()


def test_the_page_has_its_own_section_where_ratings_came(judged: Judged) -> None:
    page, without = (render_html(judged(state)) for state in ("rated", "better"))
    (section,) = [part for part in page.split("<section>") if 'id="truth"' in part]
    assert "Does the ranker agree with you?" in section
    assert section.count('class="word better"') == 4  # two truths, two candidates
    assert section.count('<svg class="fig') == 2 * (3 * 2 + 2 + 2)  # a truth: two an arm, one a candidate, two axes
    for figures in judged("rated").truth["favourites"].models.values():
        assert f"AUC {figures.auc:.2f}<small>" in section
    assert "photo-0" not in section
    assert "No favourites or stars of yours" in without


def test_the_page_shows_why_a_pair_has_no_verdict(tmp_path: Path) -> None:
    for favourites, unsaid in ((9, 0), (8, 92)):
        person = replace(PERSON, favourites=favourites, starred=False, unsaid=unsaid)
        page = render_html(judge(write_rated(tmp_path / str(unsaid), RECIPE, person)))
        (section,) = [part for part in page.split("<section>") if 'id="truth"' in part]
        assert "no verdict<small>" in section
        assert 'class="word' not in section


def test_the_json_is_plain(tmp_path: Path) -> None:
    found = judge(write_rated(tmp_path / "s", RECIPE, PERSON)).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["truth"]["favourites"]["pairs"][0]["verdict"] == "better"


def test_the_command_takes_a_file_of_ratings_and_says_what_is_wrong_with_one(tmp_path: Path) -> None:
    folder = str(write_rated(tmp_path / "s", RECIPE, PERSON, in_session=False))
    path = write_ratings(tmp_path / "ratings.csv", RECIPE, PERSON)
    done = CliRunner().invoke(main, ["judge", folder, "--ratings", str(path), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["truth"]["stars"]["models"]["second"]["n"] == 100
    path.write_text("photo,stars\nphoto-001.jpg,7\n")
    done = CliRunner().invoke(main, ["judge", folder, "--ratings", str(path)])
    assert done.exit_code == 2
    assert "line 2, column stars: '7'; it may be 1, 2, 3, 4, 5 or empty" in done.output
