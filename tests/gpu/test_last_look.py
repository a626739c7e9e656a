"""Since when a tenant that changed by hand may have used the card: the holder's own words, over an API in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from llama_assets.gpu.actions import CountPods, PatchWorkload, ReadHolders, ReadLease, ReadWorkload, Refused, WriteLease
from llama_assets.gpu.cluster_lease import ClusterLease, HeldCard
from llama_assets.gpu.lease import take
from llama_assets.gpu.objects import Card, LeaseObject, Ref, Seen, Workload
from llama_assets.gpu.record import LeaseTimes
from llama_assets.gpu.workloads import Cluster
from tests.cluster import until

TENANT = Ref("Deployment", "immich", "ml")
CARD = Card((TENANT,))
ME = "test/1234abcd"
NEVER = 3600.0


@dataclass
class Api(Cluster):
    """What an API server would answer, with one Lease and one tenant; pods go at once. `looked` counts looks at it."""

    there: dict[str, Any] = field(default_factory=dict)

    def _answered(self, action: Any) -> Any:
        there = self.there
        lease: LeaseObject | None = there.get("lease")
        tenant: Workload = there["tenant"]
        match action:
            case ReadLease():
                return Seen(lease)
            case ReadHolders():
                return frozenset()
            case ReadWorkload():
                there["looked"] += 1
                there["looking"]()
                return tenant
            case CountPods():
                return tenant.replicas
            case WriteLease(seen, holder, token):
                if (seen and seen.version) != (lease and lease.version):
                    return Refused()
                version = str(int(lease.version if lease else 0) + 1)
                release = lease.release if lease else None
                there["lease"] = LeaseObject("u", version, token, holder, lifetime_s=NEVER, release=release)
                return there["lease"]
            case PatchWorkload(seen, replicas, note):
                if seen.version != tenant.version:
                    return Refused()
                scaled(there, replicas, None if note is None else str(note))
                return there["tenant"]
        raise AssertionError(action)


def scaled(there: dict[str, Any], replicas: int, label: str | None) -> None:
    tenant = there["tenant"]
    there["tenant"] = replace(
        tenant, version=str(int(tenant.version) + 1), replicas=replicas, label=label, ready=replicas
    )


@dataclass
class Held:
    """The card in hand."""

    card: HeldCard
    there: dict[str, Any]

    def by_hand(self, replicas: int) -> None:
        scaled(self.there, replicas, self.there["tenant"].label)

    def looks(self, more: int) -> None:
        """Return after so many looks more."""
        wanted = self.there["looked"] + more
        until("more looks", lambda: self.there["looked"] >= wanted)


@contextmanager
def taken(beat_s: float, looking: Callable[[], None] = lambda: None) -> Iterator[Held]:
    tenant = Workload(TENANT, "u", "1", replicas=1, ready=1)
    there: dict[str, Any] = {"tenant": tenant, "looked": 0, "looking": looking}
    times = LeaseTimes(lifetime_s=NEVER, beat_s=beat_s, look_again_s=0.01)
    cluster = Api(None, "here", "gpu", times, there=there)  # type: ignore[arg-type]
    card = HeldCard(ClusterLease(None, "here", "gpu", CARD, times), cluster)  # type: ignore[arg-type]
    try:
        card.held = cluster.perform(card.beating(take(CARD, ME, ask_heart=False), ME))
        yield Held(card, there)
    finally:
        card.give_back(print)


def now() -> datetime:
    return datetime.now(UTC)


def test_a_change_counts_from_the_last_look_that_was_good() -> None:
    with taken(0.02) as held:
        held.looks(2)
        good = now()
        held.looks(3)  # one may have been under way, the next one is whole after `good`
        held.by_hand(2)
        changed = now()
        assert held.card.wait(10)
        disturbed = held.card.disturbed
        assert disturbed is not None and "changed by hand, at 2 replicas" in disturbed.why
        assert good <= disturbed.since <= changed
        held.looks(2)
    assert held.card.disturbed == disturbed, "looks at what is known to be changed tell nothing new"


def test_a_change_after_the_last_beat_is_seen_when_the_card_is_given_back() -> None:
    begun = now()
    with taken(NEVER) as held:
        assert held.card.disturbed is None
        held.by_hand(1)
        changed = now()
    assert held.card.ended is None and held.card.disturbed is not None
    assert "changed by hand" in held.card.disturbed.why and begun <= held.card.disturbed.since <= changed
    with taken(NEVER) as held:
        scaled(held.there, 1, None)  # an apply of what the tenant's owner has in a file
    assert held.card.disturbed is not None and "its note was gone" in held.card.disturbed.why


def test_a_look_that_is_under_way_when_the_change_lands_is_not_newer_than_its_request() -> None:
    """The look before the change ends after it: it says what was true when it was asked."""
    asked, changed = threading.Event(), threading.Event()
    slow: list[int] = []

    def looking() -> None:
        if slow and not asked.is_set():
            asked.set()
            changed.wait(10)

    with taken(0.02, looking) as held:
        held.looks(1)
        slow.append(1)
        assert asked.wait(10)
        at = now()
        held.by_hand(1)
        changed.set()
        assert held.card.wait(10)
        assert held.card.disturbed is not None and held.card.disturbed.since <= at


@pytest.mark.parametrize("undisturbed", ["given back", "released"])
def test_a_lease_in_which_nothing_changed_was_not_disturbed(undisturbed: str) -> None:
    with taken(0.02) as held:
        held.looks(2)
        if undisturbed == "released":
            held.there["lease"] = replace(held.there["lease"], version="1000", release=held.card.token)
            assert held.card.wait(10)
            assert held.card.ended is not None and held.card.ended.how == "release"
    assert held.card.disturbed is None and held.there["tenant"].replicas == 1


def test_a_lost_lease_counts_from_the_last_look_too() -> None:
    with taken(0.02) as held:
        held.looks(2)
        held.there["lease"] = LeaseObject("other", "99", 9, "someone/else", lifetime_s=NEVER)
        lost = now()
        assert held.card.wait(10)
        assert held.card.ended is not None and held.card.ended.how == "lost"
        assert held.card.disturbed is not None and held.card.disturbed.since <= lost
