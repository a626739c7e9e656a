"""Numbers as text, one way for every output.

Percent whole from 10 on, else one decimal; seconds two decimals below 10, one below 100, three below 0.1. Nothing is
rounded to a false 0, nor a share to a false 100. A real minus sign (the terminal turns it into ASCII). Not here:
sentences.
"""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"


def seconds(x: float) -> str:
    """`0.067`, `5.98`, `31.4`, `1,204`; the unit is the reader's."""
    if x < 0.0995:
        return f"{_seen(x, 0.001):.3f}"
    return f"{x:.2f}" if x < 9.995 else f"{x:.1f}" if x < 99.95 else f"{x:,.0f}"


def speed(x: float) -> str:
    """Tokens a second: `33.6`, `1,913`."""
    return f"{_seen(x, 0.1):.1f}" if x < 99.95 else f"{x:,.0f}"


def clock(x: float) -> str:
    """`45 s`, `31 min 41 s`, `2 h 05 min`."""
    whole = round(x)
    if whole < 60:
        return f"{_seen(x, 0.1):.1f} s" if x < 9.95 else f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def percent(share: float) -> str:
    """A share as percent without the sign: 0.412 is `41`, 0.053 is `5.3`, 0.0004 is `0.1`, 0.9996 is `99.9`."""
    x = abs(100 * share)
    if x == 0:
        return "0"
    if 99.5 <= x < 100:
        return f"{min(x, 99.9):.1f}"
    return f"{x:.0f}" if x >= 9.95 else f"{_seen(x, 0.1):.1f}"


def rate(share: float) -> str:
    """A rate in percent, one decimal, but never a false 0 or 100."""
    x = 100 * share
    if x in (0, 100):
        return f"{x:.0f}"
    return f"{min(99.9, max(0.1, x)):.1f}"


def change(ratio: float) -> str:
    """A ratio of seconds as a signed percentage: 0.59 is `−41`."""
    return (MINUS if ratio < 1 else "+") + percent(ratio - 1)


def side(ratio: float) -> str:
    """`41 % less` or `5.3 % more`."""
    if ratio == 1:
        return "the same"
    return f"{percent(ratio - 1)} % {'less' if ratio < 1 else 'more'}"


def span(low: float, high: float) -> str:
    """Two ratios: `36 to 45 % less`, or `11 % less to 0.6 % more`."""
    if low < 1 and high < 1:
        return f"{percent(high - 1)} to {percent(low - 1)} % less"
    if low > 1 and high > 1:
        return f"{percent(low - 1)} to {percent(high - 1)} % more"
    return f"{side(low)} to {side(high)}"


def points(difference: float) -> str:
    """A difference of rates in percentage points: `−5.0 points`, `the same`."""
    return "the same" if difference == 0 else f"{signed_points(difference)} points"


def signed_points(difference: float) -> str:
    """`−12.4`, `+0.7`, `0.0`."""
    x = abs(100 * difference)
    return f"{_side(difference)}{_seen(x if x >= 100 else min(x, 99.9), 0.1):.1f}"


def signed(difference: float) -> str:
    """A difference of AUC, or tau-b: `+0.13`, `−0.05`, `0.00`."""
    x = abs(difference)
    return f"{_side(difference)}{_seen(x if x >= 1 else min(x, 0.99), 0.01):.2f}"


def plain(x: float, decimals: int = 2) -> str:
    """A figure that may be negative: `0.13`, `−0.05`."""
    return f"{x:.{decimals}f}".replace("-", MINUS)


def level(share: float) -> str:
    """`95`, `97.5`, `98.33`."""
    return f"{100 * share:.4g}"


def probability(p: float) -> str:
    """`= 0.28`, `= 0.034`, `< 0.001`."""
    if p < 0.001:
        return "< 0.001"
    return f"= {p if p == 1 else min(p, 0.99):.2f}" if p >= 0.1 else f"= {p:.3f}"


def score(x: float) -> str:
    """A score as the model wrote it: `9`, `7.5`."""
    return f"{x:g}"


def count(n: int) -> str:
    """`2,014`."""
    return f"{n:,}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """`1 photo`, `3 photos`."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def listed(names: list[str], joint: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {joint} {names[-1]}" if names else ""


def _seen(x: float, least: float) -> float:
    """What is not 0 is not printed as 0."""
    return max(x, least) if x > 0 else x


def _side(difference: float) -> str:
    return "" if difference == 0 else "+" if difference > 0 else MINUS
