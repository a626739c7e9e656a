"""A session in a process of its own, for tests that kill it: says how many requests are answered, and waits to be told.

python -m bench.killed PHOTOS RESULTS STOP_AT      "holding" on stdout when request STOP_AT is in flight
"""

import sys
from pathlib import Path

from llama_assets.bench import Holding, begin, prepare, run

from .driven import DrivenClock, DrivenEngine, comparison


def main(photos: Path, results: Path, stop_at: int) -> None:
    time = DrivenClock()
    engine = DrivenEngine(time)

    def hold(request: int) -> None:
        if request == stop_at:
            print("holding", flush=True)
            sys.stdin.read()

    engine.before_answer = hold
    with prepare(photos, 8, 1, print) as prepared:
        compared = comparison(prepared)
        outcome = begin(results, compared, lambda _: None, time.clock)
        run(outcome.folder, compared, engine, Holding(token=7), lambda _: None, clock=time.clock)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
