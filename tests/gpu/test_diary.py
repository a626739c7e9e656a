"""What a lease did to workloads is written down with its times while the real plans are carried out."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from llama_assets.gpu.actions import (
    Action,
    CountPods,
    PatchWorkload,
    ReadLease,
    ReadWorkload,
    Wait,
    WriteLease,
    perform,
)
from llama_assets.gpu.diary import Diary
from llama_assets.gpu.lease import give, take
from llama_assets.gpu.note import identity
from llama_assets.gpu.objects import Card, LeaseObject, Ref, Seen, Workload

TENANT, ENGINE = Ref("Deployment", "immich", "ml"), Ref("Deployment", "llama-cpp", "llama-swap")


class Slow:
    """A cluster in which pods go, and become ready, at the second look."""

    def __init__(self) -> None:
        self.now = {ref: Workload(ref, ref.name, "1", at, ready=at) for ref, at in ((TENANT, 1), (ENGINE, 0))}
        self.lease: LeaseObject | None = None
        self.lingering = {TENANT: 1, ENGINE: 0}

    def answer(self, action: Action) -> Any:
        match action:
            case ReadLease():
                return Seen(self.lease, dead=False)
            case WriteLease(holder=holder, token=token):
                self.lease = lease(holder, token)
                return self.lease
            case ReadWorkload(ref=ref):
                return self.now[ref]
            case PatchWorkload(seen=seen, replicas=replicas, note=note):
                label = str(note) if note else None
                self.now[seen.ref] = replace(seen, replicas=replicas, label=label, ready=0)
                self.lingering[seen.ref] = max(self.lingering[seen.ref], seen.replicas)
                return self.now[seen.ref]
            case CountPods(ref=ref):
                return self.lingering[ref]
            case Wait(ref=ref):
                self.lingering[ref] = 0
                self.now[ref] = replace(self.now[ref], ready=self.now[ref].replicas)
                return True
        raise AssertionError(action)


def lease(holder: str | None, token: int) -> LeaseObject:
    return LeaseObject("uid", str(token), token, holder)


def test_a_tenants_way_down_and_back_is_written_with_its_times() -> None:
    ticks = count(1)
    cluster, diary = Slow(), Diary(clock=lambda: str(next(ticks)))
    card = Card((TENANT,), ENGINE)
    held = perform(diary.of(take(card, identity("me"), ask_heart=False)), cluster.answer)
    down = [("immich/ml", "set", 0), ("immich/ml", "gone", 0), ("llama-cpp/llama-swap", "set", 1)]
    assert [(one.workload, one.became, one.replicas) for one in diary.changes] == down
    perform(diary.of(give(card, held.lease)), cluster.answer)
    back = [("llama-cpp/llama-swap", "set", 0), ("llama-cpp/llama-swap", "gone", 0)]
    back += [("immich/ml", "set", 1), ("immich/ml", "ready", 1)]
    assert [(one.workload, one.became, one.replicas) for one in diary.changes] == down + back
    assert [one.at for one in diary.changes] == list("1234567")
