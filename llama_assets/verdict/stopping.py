"""Whether a session knows enough: the width of its intervals, and never where they lie.

Here: the rule that a session is given (`bench` asks it at the end of each even number of blocks). Looking at verdicts
while measuring makes 9 to 41 of 100 sessions of equal arms end with a difference; stopping on width alone 3 to 4, with
the verdict read once, afterwards. Not here: when it is asked, what follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from llama_assets.bench.rows import Row, incumbent_of

from .compare import paired, seconds_pair
from .evidence import gather
from .statistics import RULES, Rules

FEWEST_PHOTOS = 50  # answered by both arms; before that a narrow stretch is luck


def narrow_enough(incumbent: str | None, percent: float, rules: Rules = RULES) -> Callable[[Sequence[Row]], bool]:
    """A rule over rows: every candidate's typical ratio of seconds is known to `percent` on both sides.

    The interval is the verdict's own: its level is shared by the comparisons, and an allowance for drift widens it. A
    candidate for a model that is an arm itself is held against that one. Without a candidate there is nothing to wait
    for, so it is never enough.
    Stopping by width: Stein 1945 (Ann Math Stat 16:243).
    """
    from scipy import stats  # noqa: F401  # now, and not under the lease: it takes more than a second

    limit = math.log1p(percent / 100)

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
            pair = seconds_pair(series, len(candidates), rules=rules)
            if pair.low is None or pair.high is None or math.log(pair.high / pair.low) > 2 * limit:
                return False
        return True

    return enough
