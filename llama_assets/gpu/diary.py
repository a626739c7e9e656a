"""When each workload was set, when its pods were gone and when it was ready again: what a plan did, with the times.

Comes in: a plan while it is carried out. Goes out: `Change`s in the order in which they were seen. Only looks on: the
actions and their answers pass unchanged. Not here: the order of writes (`lease.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from llama_assets.gpu.actions import CountPods, PatchWorkload, Plan, ReadWorkload
from llama_assets.gpu.objects import Ref, Workload
from llama_assets.gpu.record import Change, micro_time

Result = TypeVar("Result")


class Diary:
    """The changes of one lease, `clock` gives the time of each."""

    def __init__(self, clock: Callable[[], str] = micro_time) -> None:
        self.changes: tuple[Change, ...] = ()
        self._clock = clock
        self._waited: dict[Ref, int] = {}  # set by us, and not yet seen to be so

    def of(self, plan: Plan[Result]) -> Plan[Result]:
        """The same plan, written down while it is carried out."""
        answer = None
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer = yield action
            match action, answer:
                case PatchWorkload(seen=seen, replicas=replicas), Workload():
                    if seen.replicas != replicas:
                        self._waited[seen.ref] = replicas
                        self._note(seen.ref, "set", replicas)
                case CountPods(ref=ref), 0 if self._waited.get(ref) == 0:
                    self._note(self._seen(ref), "gone", 0)
                case ReadWorkload(ref=ref), Workload() if 0 < self._waited.get(ref, 0) <= answer.ready:
                    self._note(self._seen(ref), "ready", answer.ready)

    def _seen(self, ref: Ref) -> Ref:
        del self._waited[ref]
        return ref

    def _note(self, ref: Ref, became: Literal["set", "gone", "ready"], replicas: int) -> None:
        self.changes = (*self.changes, Change(self._clock(), f"{ref.namespace}/{ref.name}", became, replicas))
