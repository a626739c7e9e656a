"""The lease in the report: its tokens, when each workload went and came back, who gave it back, who else was seen.

Comes in: session.json as it was written, ours or a hand-written one. Goes out: rows of (what, what is known of it);
what the file does not say is said to be unknown. Not here: where the leased seconds went (`judging`), the bar
(`charts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .album import cut
from .formats import clock, listed, plural

Row = tuple[str, list[str]]


def rows(raw: Mapping[str, Any]) -> list[Row]:
    """What the session file says of its leases, a row for each thing; empty without a session file."""
    if not raw:
        return []
    leases = [lease for lease in _list(raw.get("leases")) if isinstance(lease, Mapping)]
    return [
        ("Lease", [_taken(lease) for lease in leases] or ["not recorded"]),
        *_workloads(raw, leases),
        ("Given back", [_given(lease, raw) for lease in leases] or ["not recorded"]),
        ("Others on the card", [_others(raw)]),
    ]


def _taken(lease: Mapping[str, Any]) -> str:
    seconds = lease.get("seconds")
    held = f"held {clock(float(seconds))}" if isinstance(seconds, int | float) else "how long it was held is not known"
    return f"token {cut(str(lease.get('token', 'not known')))}, taken {_time(lease.get('started_at'))}, {held}"


def _workloads(raw: Mapping[str, Any], leases: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """A tenant's replicas over time, then those of the engine, which a lease starts and stops."""
    tenants = raw.get("tenants")
    if not isinstance(tenants, Mapping):
        yield "Tenants", ["not recorded"]
        tenants = {}
    elif not tenants:
        yield "Tenants", ["none is in the catalog"]
    elif all(found is None for found in tenants.values()):
        yield "Tenants", [f"{listed([cut(str(name)) for name in tenants])}: not touched, they run in a cluster"]
        tenants = {}
    changed = [change for lease in leases for change in _list(lease.get("changes")) if isinstance(change, Mapping)]
    names = dict.fromkeys([*map(str, tenants), *(str(change.get("workload")) for change in changed)])
    for name in names:
        steps = _steps(tenants.get(name), [change for change in changed if str(change.get("workload")) == name])
        yield ("Tenant " if name in tenants else "Engine ") + cut(name), [steps]


def _steps(found: Any, changes: Sequence[Mapping[str, Any]]) -> str:
    """`1 → 0 at 02:14:01, pods gone 02:14:09, 0 → 1 at 02:45:06, Ready 02:45:31 UTC`."""
    if not changes:
        return f"found at {cut(str(found))}; when it went and came back is not recorded"
    now, told = found if found is not None else 0, []
    for change in changes:
        at, replicas = _time(change.get("at"), zone=False), change.get("replicas")
        match change.get("became"):
            case "set":
                told.append(f"{cut(str(now))} \N{RIGHTWARDS ARROW} {cut(str(replicas))} at {at}")
                now = replicas
            case "gone":
                told.append(f"pods gone {at}")
            case "ready":
                told.append(f"Ready {at}")
    return ", ".join(told) + " UTC"


def _given(lease: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    """By whom, and how it was left."""
    left = [cut(str(one)) for one in _list(lease.get("left"))]
    if left:
        return f"by its holder: {'; '.join(left)}"
    if isinstance(lease.get("seconds"), int | float):
        untouched = isinstance(raw.get("tenants"), Mapping) and not any(raw["tenants"].values())
        return "by its holder; nothing was to be put back" if untouched else "by its holder"
    return "not by its holder, as far as the session knows: in a cluster the reaper puts back what a dead holder left"


def _others(raw: Mapping[str, Any]) -> str:
    looks, seen = raw.get("running_samples"), [one for one in _list(raw.get("contamination")) if one]
    if seen:
        kinds = dict.fromkeys(cut(str(one["what"])) for one in seen if isinstance(one, Mapping) and one.get("what"))
        return f"{plural(len(seen), 'sign')} of others{f' ({listed(list(kinds))})' if kinds else ''}"
    if isinstance(looks, int) and looks > 0:
        return f"none seen in {plural(looks, 'look')}"
    return "nobody looked"


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _time(value: Any, zone: bool = True) -> str:
    try:
        at = datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError):
        return "at a time not known"
    return f"{at:%H:%M:%S}{' UTC' if zone else ''}"
