"""The long run: every cell of the grid in turn, worlds side by side, a line an injection, and the table at the end."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from llama_assets.kube import Kube
from tests.cluster import Cluster, _started
from tests.faults.lease.grid import CELLS, Cell
from tests.faults.lease.injection import Outcome, inject
from tests.faults.lease.table import row, written
from tests.faults.lease.world import SHAPES, Disturbed, World, eye_on


class Run:
    """Cells waiting, worlds that play them, outcomes."""

    def __init__(self, cluster: Cluster, lines: Path, seed: int, until: float, cells: list[Cell]) -> None:
        self.cluster, self.lines, self.seed, self.until = cluster, lines, seed, until
        self.waiting = list(enumerate(cells))
        self.outcomes: list[Outcome] = []
        self.disturbed = 0
        self.began = time.monotonic()
        self._lock = threading.Lock()

    def next(self, world: World) -> tuple[int, Cell] | None:
        """The first that this world can play."""
        with self._lock:
            for at, (number, cell) in enumerate(self.waiting):
                if cell.fits(world.shape) and time.time() < self.until:
                    del self.waiting[at]
                    return number, cell
        return None

    def play(self, world: World) -> None:
        """All this world is given."""
        while (given := self.next(world)) is not None:
            number, cell = given
            seed = self.seed * 1_000_003 + number
            try:
                outcome = inject(world, cell, seed)
            except Exception as error:
                with self._lock:
                    self.disturbed += 1
                    if self.disturbed < 200:
                        self.waiting.insert(0, (number + 500_000, cell))
                    what = str(error) if isinstance(error, Disturbed) else traceback.format_exc()
                    print(f"disturbed: {cell}, world {world.number}, seed {seed}: {what}", flush=True)
                time.sleep(3)
                continue
            with self._lock:
                self.outcomes.append(outcome)
                with self.lines.open("a") as out:
                    out.write(json.dumps(row(outcome)) + "\n")
                done, bad = len(self.outcomes), sum(not each.good for each in self.outcomes)
                left = len(self.waiting)
                minutes = (time.monotonic() - self.began) / 60
                print(
                    f"[{done} done, {left} left, {bad} bad, {minutes:.1f} min, {outcome.wall:.0f} s] {outcome}",
                    flush=True,
                )


def main() -> int:
    """Returns 1 when an injection was not restored or anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.lease", description=__doc__)
    parser.add_argument("--injections", type=int, default=0, help="how many (0: every cell --times)")
    parser.add_argument("--times", type=int, default=5, help="how often every cell")
    parser.add_argument("--side-by-side", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600, help="no new injection after so long")
    parser.add_argument("--only", default="", help="cells whose name matches this expression")
    parser.add_argument("--after", type=Path, nargs="*", default=[], help="lines of earlier runs, which count too")
    parser.add_argument("--lines", type=Path, default=Path("figures/out"), help="folder of the run's own lines")
    parser.add_argument("--out", type=Path, default=Path("docs/faults"), help="table as .md and .json")
    asked = parser.parse_args()

    kubeconfig = _started()
    chance = random.Random(asked.seed)
    passes = _passes(asked, chance)
    print(
        f"seed {asked.seed}: {len(passes)} injections, {len(CELLS)} cells, {asked.side_by_side} side by side",
        flush=True,
    )
    lines = asked.lines / f"faults-{asked.seed}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    lines.parent.mkdir(parents=True, exist_ok=True)
    with Kube.open(kubeconfig) as kube, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(kubeconfig, kube, None)
        run = Run(cluster, lines, asked.seed, time.time() + asked.minutes * 60, passes)
        with eye_on(cluster, secrets.token_hex(3)) as eye:
            worlds = [
                World(cluster, eye, at, SHAPES[at % len(SHAPES)], Path(folder) / str(at))
                for at in range(asked.side_by_side)
            ]
            try:
                threads = [threading.Thread(target=_live, args=(run, world), daemon=True) for world in worlds]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                run.until = 0.0
                for world in worlds:
                    world.remove()
                with lines.open("a") as out:
                    minutes = round((time.monotonic() - run.began) / 60, 1)
                    said = {"seed": asked.seed, "side_by_side": asked.side_by_side, "minutes": minutes}
                    out.write(
                        json.dumps({"run": {**said, "disturbed": run.disturbed, "watches": 1 + eye.blind}}) + "\n"
                    )
                print(written(asked.out, [*asked.after, lines]))
    bad = [outcome for outcome in run.outcomes if not outcome.good]
    for outcome in bad:
        print(outcome)
    return 1 if bad else 0


def _passes(asked: argparse.Namespace, chance: random.Random) -> list[Cell]:
    """Every cell in turn, shuffled, as often as asked; what earlier runs have done is left out."""
    lines = [json.loads(line) for path in asked.after for line in path.read_text().splitlines()]
    done = Counter(Cell(line["step"], line["fault"]) for line in lines if "step" in line)
    wanted = [cell for cell in CELLS if re.search(asked.only, str(cell))]
    passes: list[Cell] = []
    turn = 0
    while turn < asked.times if not asked.injections else len(passes) < asked.injections:
        turn += 1
        cells = [cell for cell in wanted if done[cell] < turn]
        chance.shuffle(cells)
        passes += cells
    return passes[: asked.injections or None]


def _live(run: Run, world: World) -> None:
    try:
        world.make()
        run.play(world)
    except Exception:
        traceback.print_exc()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worlds are removed
    try:
        status = main()
    except SystemExit as error:
        status = int(error.code or 0)
    sys.stdout.flush()
    os._exit(status)  # threads of wires may still wait for a read
