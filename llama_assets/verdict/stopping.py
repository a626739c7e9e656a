"""Whether a session knows enough: the width of its intervals, and never where they lie.

Here: the rule that a session is given (`bench` asks it at the end of each even number of blocks). Looking at verdicts
while measuring makes 10 of 100 sessions of equal arms end with a difference, with a plain t test 61; stopping on width
alone 2 to 4, with the verdict read once, afterwards, from a wider interval (`Rules.stopped`). Not here: when it is
asked, what follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from llama_assets.bench.rows import Row, incumbent_of

from .compare import paired, seconds_pair
from .evidence import gather
from .statistics import RULES, Flags, Rules

FEWEST_PHOTOS = 50  # answered by both arms; before that a narrow stretch is luck


def narrow_enough(incumbent: str | None, percent: float, rules: Rules = RULES) -> Callable[[Sequence[Row]], bool]:
    """A rule over rows: every candidate's typical ratio of seconds is known to `percent` on both sides.

    The interval is that of the verdict which is read then (`Rules.stopped`), an allowance for drift included. A
    candidate for a model that is an arm itself is held against that one. Without a candidate there is nothing to wait
    for, so it is never enough.
    Stopping by width: Stein 1945 (Ann Math Stat 16:243).
    """
    from scipy import stats  # noqa: F401  # now, and not under the lease: it takes more than a second

    def enough(rows: Sequence[Row]) -> bool:
        evidence = gather(rows)
        if len(evidence.arms) < 2:
            return False
        against = incumbent if incumbent is not None and incumbent in evidence.arms else next(iter(evidence.arms))
        candidates = [model for model in evidence.arms if model != against]
        for model in candidates:
            series = paired(evidence, incumbent_of(model, evidence.arms) or against, model, rules)
            if series.n < FEWEST_PHOTOS:
                return False
            pair = seconds_pair(series, len(candidates), rules=rules.stopped())
            if pair.low is None or pair.high is None or not narrow(math.log(pair.high / pair.low) / 2, percent):
                return False
        return True

    return enough


def narrow(half_width: ArrayLike, percent: float) -> Flags:
    """Whether half an interval of log ratios is at most `percent`; of a stack of them too."""
    found: Flags = np.asarray(half_width, dtype=float) <= math.log1p(percent / 100)
    return found
