"""A figure runs to its end and prints what it promises. How fast anything was is not asserted: see `make figures`."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from figures import clean_clone, demo
from figures.__main__ import NAMES
from figures.measuring import Goal, How, Program, ProgramFailed, in_turns, line, run
from tests.conftest import ROOT

PROMISED = {"figure", "goal", "ours", "rival", "ratio", "reached", "met", "unit", "command", "machine", "rounds"}
QUICK = How(quick=True, rounds=1, say=lambda text: None)
LINES = {
    "download": {"download": "hf download", "download_curl": "curl", "download_memory": "hf download"},
    "overhead": {"overhead": "http.client", "overhead_turn": "http.client"},
    "definitions": {"definitions": "import dagster", "definitions_built": "import dagster"},
    "poll": {"poll": "model_info", "poll_requests": None, "poll_tick": "model_info", "poll_tick_requests": None},
    "demo": {"demo": None, "demo_again": None},
}


def promised(found: dict) -> dict:
    assert found.keys() >= PROMISED
    for measured in filter(None, (found["ours"], found["rival"])):
        assert 0 < measured["min"] <= measured["median"] <= measured["max"]
    assert (found["rival"] is None) == (found["ratio"] is None)
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if name == "definitions" else [])
        for name in NAMES
        if name in LINES and name != "demo"
    ],
)
def test_a_figure_prints_a_json_line_beside_its_rival(name: str) -> None:
    command = [sys.executable, "-m", "figures", name, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [promised(json.loads(text)) for text in done.stdout.splitlines()]
    assert {one["figure"]: (one["rival"] or {}).get("name") for one in found} == LINES[name]
    assert all(one["quick"] and one["met"] is None for one in found), "a rehearsal meets no goal"


@pytest.mark.long
def test_the_figures_of_verdicts_print_what_they_promise_of_simulated_sessions() -> None:
    command = [sys.executable, "-m", "figures", "verdicts", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(text) for text in done.stdout.splitlines()]
    assert all(one.keys() >= PROMISED and one["met"] is None for one in found)
    assert {one["figure"] for one in found} == {
        "verdict_aa",
        "verdict_power",
        "verdict_coverage",
        "verdict_clean",
        "judge",
    }


@pytest.mark.long
def test_two_simulated_days_of_automation_fetch_measure_and_keep_every_promise() -> None:
    """The year is `python -m figures --year`."""
    command = [sys.executable, "-W", "ignore", "-m", "figures", "--year", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = promised(json.loads(done.stdout))
    counts = found["counts"]
    assert (counts["materialized gguf"], counts["materialized benchmark"]) == (3, 3)
    assert counts["failed runs"] == 0 and "ticks that did not come to rest" not in counts
    assert found["leases"] == 1 and found["ours"]["max"] > 5
    assert (found["seconds_in_quiet_hours"], found["ledger_less_than_seen_s"]) == (0, 0.0)


def test_the_demos_lines_say_the_first_run_and_the_next() -> None:
    """The demo itself is run by tests/end_to_end; the figure is only its seconds."""
    found = [promised(one) for one in demo.lines(How(False, 2, print), [30.0, 50.0], [20.0, 22.0])]
    assert [(one["figure"], one["reached"], one["met"]) for one in found] == [
        ("demo", 40.0, True),
        ("demo_again", 21.0, True),
    ]
    cold, warm = [promised(one) for one in clean_clone.lines(How(False, 1, print), 300.0, 46.0)]
    assert (cold["goal"], cold["met"]) == (None, None)
    assert (warm["goal"], warm["met"]) == ("<= 45 s", False)


@pytest.mark.parametrize(
    ("goal", "ours", "reached", "met", "says"),
    [
        (Goal(1.0, "ratio"), [2.0, 6.0, 30.0], 2.0, False, "<= 1 x rival"),
        (Goal(2.0, "ratio"), [2.0, 6.0, 30.0], 2.0, True, "<= 2 x rival"),
        (Goal(0.5, "over"), [2.0, 6.0, 30.0], 1.0, False, "<= 0.5 s over rival"),
        (Goal(5.0, "ours"), [2.0, 6.0, 30.0], 6.0, False, "<= 5 s"),
    ],
)
def test_ratios_and_differences_are_of_runs_in_the_same_round(
    goal: Goal, ours: Sequence[float], reached: float, met: bool, says: str
) -> None:
    found = line("f", How(False, 3, print), goal, "s", ours, "ours", ("rival", [1.0, 3.0, 30.0], "theirs"))
    assert (found["reached"], found["met"], found["goal"]) == (reached, met, says)
    assert found["ratio"] == 2.0 and found["ratio_range"] == [1.0, 2.0]


def test_every_line_is_explained_and_has_its_latest_numbers() -> None:
    page = (ROOT / "docs" / "figures.md").read_text()
    for name in [*(name for lines in LINES.values() for name in lines), "clean_clone_cold", "clean_clone_warm", "year"]:
        assert page.count(f"| `{name}` |") == 2, name


def test_each_round_begins_with_another_one() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    in_turns(How(False, 3, lambda text: None), runs)
    assert "".join(order) == "abcbcacab"


def test_peak_memory_is_the_programs_own_and_not_that_of_the_one_who_measures() -> None:
    held = bytearray(300 << 20)
    small = run(Program("small", (sys.executable, "-S", "-c", "pass")))
    large = run(Program("large", (sys.executable, "-S", "-c", "bytearray(b'x') * (80 << 20)")))
    assert len(held) and small.peak_mib < 60
    assert 80 < large.peak_mib < small.peak_mib + 100


def test_a_program_that_fails_gives_no_figure_but_its_words() -> None:
    with pytest.raises(ProgramFailed, match=r"exit status 3[\s\S]*no such hub"):
        run(Program("p", (sys.executable, "-c", "import sys; print('no such hub'); sys.exit(3)")))
    with pytest.raises(ProgramFailed, match="not-a-program"):
        run(Program("p", ("not-a-program",)))
