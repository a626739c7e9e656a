"""What can be said of a cluster's card without touching it: who has it, and what taking it would do.

`overview` is one look and says what it may not see; `preview` asks all that a take would be asked, by reads and by dry
runs of the very writes, so that Roles and admission policies answer too. Not here: taking (`cluster_lease.py`), what
shows over time only (`vigil.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llama_assets.gpu.actions import Denied, Plan, ReadWorkload
from llama_assets.gpu.courtesy import owners
from llama_assets.gpu.errors import ForeignNote, NoReaper
from llama_assets.gpu.lease import as_found, reaper_beats
from llama_assets.gpu.note import Note
from llama_assets.gpu.objects import Card, LeaseObject, Ref, Workload
from llama_assets.gpu.record import Overview, Preview, Record, age
from llama_assets.gpu.workloads import Cluster
from llama_assets.kube import Forbidden


def overview(cluster: Cluster, card: Card, plan: str) -> Overview:
    """One look. `held` is whether a holder is named; one look cannot tell if it lives.

    Raises:
        KubeError: the Lease may not be read, or the API server does not answer.
    """
    lease = cluster.read_lease()
    noted, unknown = noted_anywhere(cluster, card)
    try:
        heart, heart_said = cluster.heart(), ""
    except Forbidden as error:
        heart, heart_said = None, f"whether a reaper beats is not known: {error.message}"
        unknown = (*unknown, heart_said)
    tenants = tuple((f"{seen.ref.namespace}/{seen.ref.name}", _restores(seen)) for seen in noted)
    record = replace(lease.record if lease else Record(), tenants=tenants)
    lines = (
        _who(lease),
        *(f"{seen.ref}: at {seen.replicas}, {_restored(seen)}" for seen in noted),
        *(part for part in unknown if part != heart_said),
        heart_said or _beats(heart),
        plan,
    )
    facts = {
        "plan": plan,
        "held_seconds": age(record.acquired_at) if record.holder else None,
        "renewed_seconds_ago": age(record.renewed_at) if record.holder else None,
        "workloads": [
            {"workload": str(seen.ref), "replicas": seen.replicas, "restores": _restores(seen), "note": seen.label}
            for seen in noted
        ],
        "reaper": {"last_beat": heart, "seconds_ago": age(heart)},
        "unknown": list(unknown),
    }
    return Overview(record, record.holder is not None, lines, facts)


def noted_anywhere(cluster: Cluster, card: Card) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """Workloads with a note in the card's namespaces, in the catalog or not, and what may not be seen."""
    found: dict[Ref, Workload] = {}
    unknown: tuple[str, ...] = ()
    for namespace in sorted({ref.namespace for ref in card.workloads}):
        try:
            seen = cluster.noted({namespace})
        except Forbidden:  # by name then: the Roles of the lease's own accounts are by name
            seen, hidden = noted_by_name(cluster, tuple(ref for ref in card.workloads if ref.namespace == namespace))
            unknown += hidden
        found |= {one.ref: one for one in seen}
    return tuple(found.values()), unknown


def noted_by_name(cluster: Cluster, refs: tuple[Ref, ...]) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """Which of these bear a note, each read by its name, and sentences about those that may not be seen."""
    seen = {ref: cluster.perform(_read(ref)) for ref in refs}
    return (
        tuple(one for one in seen.values() if isinstance(one, Workload) and one.label is not None),
        tuple(
            f"{ref}: whether it bears a note may not be seen by this account"
            for ref, one in seen.items()
            if isinstance(one, Denied) and one.status == 403
        ),
    )


def preview(cluster: Cluster, card: Card, ask_heart: bool) -> Preview:
    """What taking would do. Writes nothing; waits up to `heart_s` for a beat of the reaper.

    Raises:
        KubeError: the Lease may not be read, or the API server does not answer.
    """
    lease = cluster.patiently(cluster.read_lease)
    lines, obstacles = [_who(lease)], []
    if lease and lease.holder:
        lines.append(f"a taker waits for it, {cluster.times.wait_s:.0f} s at most")
    for ref in card.workloads[::-1] if card.engine else card.workloads:  # in the order of taking
        said, wrong = _workload(cluster, card, ref)
        lines += said
        obstacles += wrong
    for owner in cluster.patiently(lambda: owners(cluster.kube, card.workloads)):
        (obstacles if owner.obstacle else lines).append(str(owner))
    obstacles += cluster.patiently(lambda: list(_rights(cluster, card, lease)))
    if not ask_heart:
        lines.append("no reaper is asked for: nobody gives the card back if the holder dies")
    else:
        try:
            cluster.perform(reaper_beats())
            lines.append("a reaper beats: it gives the card back if the holder dies")
        except NoReaper as error:
            obstacles.append(str(error))
    if not obstacles:
        lines.append("the API server allows every write (dry run); nothing was written")
    return Preview(lease.record if lease else Record(), bool(lease and lease.holder), tuple(lines), tuple(obstacles))


def _workload(cluster: Cluster, card: Card, ref: Ref) -> tuple[list[str], list[str]]:
    """What becomes of one workload, and what stands against it."""
    seen = cluster.perform(_read(ref))
    if isinstance(seen, Denied):
        return [], [f"{ref}: {seen.status} {seen.message}"]
    try:
        found, older = as_found(seen), seen.note
    except ForeignNote as error:
        return [], [str(error)]
    up = ref == card.engine
    becomes = max(found, 1) if up else 0
    how = f"set to {becomes}"
    if up:
        down = "taken down first, then " if card.exclusive and found else ""
        how = f"{down}set to {becomes} once the pods that hold the card are gone"
    bears = f" (note {older})" if older else ""
    wrong = []
    if seen.claims_deleted:
        wrong.append(f"{ref}: scaling it deletes its volumes (persistentVolumeClaimRetentionPolicy.whenScaled: Delete)")
    # No holder has the number 0, and no token either: should this ever be written, nobody would take it for theirs.
    says_no = cluster.patiently(lambda: cluster.refused(seen, becomes, Note(found, becomes, 0, "0" * 8)))
    if says_no is not None:
        wrong.append(f"{ref}: the API server would refuse the write: {says_no}")
    return [f"{ref}: at {seen.replicas}{bears}; {how}; restored to {found}"], wrong


def _rights(cluster: Cluster, card: Card, lease: LeaseObject | None) -> Iterator[str]:
    """What this account lacks and a dry run does not tell."""
    kube, where = cluster.kube, f"Lease {cluster.namespace}/{cluster.lease}"
    # A Lease is made by PUT, which RBAC can allow for one name: it wants `update` and `create`.
    for verb in ("patch",) if lease else ("create", "update", "patch"):
        if not kube.allowed(verb, "Lease", cluster.namespace, cluster.lease):
            yield f"{where}: this account may not {verb} it; manifests/ has the Role"
    for namespace in sorted({ref.namespace for ref in card.workloads}):
        if not kube.allowed("list", "Pod", namespace):
            yield (
                f"pods of namespace {namespace}: this account may not list them, so it could not see that they are "
                "gone; manifests/ has the Role"
            )


def _read(ref: Ref) -> Plan[Workload | Denied]:
    found: Workload | Denied = yield ReadWorkload(ref)
    return found


def _who(lease: LeaseObject | None) -> str:
    if lease is None:
        return "free; nobody ever had the card"
    if lease.holder is None:
        return f"free; last token {lease.token}"
    return (
        f"held by {lease.holder} ({lease.purpose or 'no purpose given'}) since {lease.acquired_at}, "
        f"for {_ago(lease.acquired_at)}, token {lease.token}; last renewed {_ago(lease.renewed_at)} ago by its own "
        f"clock. One look cannot tell if it lives: it is dead once it has not renewed for {lease.lifetime_s:.0f} s"
    )


def _beats(heart: str | None) -> str:
    if heart is None:
        return "no reaper has ever beaten: nobody gives the card back if a holder dies"
    return f"the reaper's last beat was {_ago(heart)} ago; it beats every few seconds while it lives"


def _ago(stamp: str | None) -> str:
    seconds = age(stamp)
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _restores(seen: Workload) -> int | None:
    """What its note says to restore; None when it is no note of ours."""
    try:
        return seen.note.found if seen.note else None
    except ForeignNote:
        return None


def _restored(seen: Workload) -> str:
    try:
        note = seen.note
    except ForeignNote as error:
        return str(error)
    if note is not None and note.set != seen.replicas:
        return f"changed by hand since we set {note.set}; it stays so"
    return f"will be restored to {note.found}" if note else ""
