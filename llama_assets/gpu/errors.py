"""What can go wrong with a cluster's card; each error owns its sentence.

GpuError (record.py)
├── Lost            the Lease is not ours any more
├── NotAllowed      the API server said no (403, 404, 422): names the object and what it said
├── KeepsChanging   somebody writes the object faster than we do
├── StillThere      pods that hold the card do not go
├── ScaledMeanwhile somebody scaled a workload up while we waited for its pods to go
├── NoReaper        nobody beats who would give the card back for us
├── ScaledByOthers  an autoscaler or GitOps tool would scale a workload back; names each
├── AnotherLease    a workload bears the note of a holder of another Lease
├── NotRestored     the card was given back, and something is not as it was found
├── ForeignNote     the label is there and is no note of ours
└── HeldByOther     (record.py)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_assets.gpu.note import LABEL
from llama_assets.gpu.record import GpuError

if TYPE_CHECKING:
    from llama_assets.gpu.actions import Denied
    from llama_assets.gpu.lease import Report
    from llama_assets.gpu.note import Note
    from llama_assets.gpu.objects import LeaseObject, Ref


class Lost(GpuError):
    """The Lease is gone, free or another's."""

    def __init__(self, mine: LeaseObject, holder: str | None) -> None:
        super().__init__(
            f"the GPU lease of {mine.holder} (token {mine.token}) was lost to {holder or 'nobody'}: it expired, or "
            "somebody deleted it. What we had set is put back; `llama-assets lease status` shows who has the card"
        )


class NotAllowed(GpuError):
    """The API server said no."""

    def __init__(self, what: str, denied: Denied) -> None:
        self.what, self.status = what, denied.status
        way_out = {
            403: "give this service account the right on it (manifests/ has the Role)",
            404: "correct its name in the catalog, or take it out",
        }.get(denied.status, "let the policy that refused allow `spec.replicas` and the label " + LABEL)
        super().__init__(f"{what}: {denied.status} {denied.message or 'refused'}; {way_out}. All else is as found")


class KeepsChanging(GpuError):
    """Every write was refused because somebody wrote between."""

    def __init__(self, what: str, times: int) -> None:
        super().__init__(f"{what} changed under each of {times} writes; see who writes it (`kubectl get -w`)")


class StillThere(GpuError):
    """Pods of a workload at 0 replicas do not go."""

    def __init__(self, ref: Ref, pods: int) -> None:
        super().__init__(
            f"{ref} is at 0, and {pods} of its pods are still there; see `kubectl -n {ref.namespace} get pods`: "
            "a pod that ignores SIGTERM goes after its terminationGracePeriodSeconds"
        )


class ScaledMeanwhile(GpuError):
    """Somebody wants the card back before we had it."""

    def __init__(self, ref: Ref, replicas: int) -> None:
        super().__init__(
            f"{ref} was scaled to {replicas} while we waited for its pods to go; that stays, and the card was not "
            "taken. All else is as found; try again when it may be without the card"
        )


class NoReaper(GpuError):
    """Nobody would give the card back if we died."""

    def __init__(self, heart: str | None) -> None:
        seen = f"its last beat is {heart}, and it does not change" if heart else "it has never beaten"
        super().__init__(
            f"no reaper beats ({seen}), so nobody would give the card back if this process died; "
            "start Deployment llama-assets-reaper, or say --without-reaper"
        )


class ScaledByOthers(GpuError):
    """Somebody else scales a workload and would scale it back while we hold the card."""

    def __init__(self, obstacles: tuple[str, ...]) -> None:
        self.obstacles = obstacles
        super().__init__("nothing was scaled, because it would be scaled back. " + "; ".join(obstacles))


class AnotherLease(GpuError):
    """A workload is down for the holder of another Lease."""

    def __init__(self, ref: Ref, note: Note) -> None:
        super().__init__(
            f"{ref} bears the note {note} of a holder of another Lease in this namespace; one card has one lease, so "
            "give every catalog that names this workload the same `gpu.lease`"
        )


class NotRestored(GpuError):
    """The card was given back, and something is not as it was found."""

    def __init__(self, reports: tuple[Report, ...], after: str = "") -> None:
        self.reports = reports
        super().__init__(
            f"{after}{'. ' if after else ''}The GPU lease is free, but not all is as found: "
            + "; ".join(str(report) for report in reports)
        )


class ForeignNote(GpuError):
    """The label is there, and is not ours."""

    def __init__(self, ref: Ref, label: str) -> None:
        super().__init__(
            f"{ref} has label {LABEL}={label}, which is no note of ours; remove it once you know what it means: "
            f"`kubectl -n {ref.namespace} label {ref.kind.lower()} {ref.name} {LABEL}-`"
        )
