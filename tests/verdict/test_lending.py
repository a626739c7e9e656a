"""The lease in the report: when a tenant went and came back, who gave the card back, and what nobody wrote down."""

from __future__ import annotations

from typing import Any

from llama_assets.verdict.lending import rows

IMMICH, SWAP = "immich/immich-machine-learning", "llama-cpp/llama-swap"


def change(clock: str, workload: str, became: str, replicas: int) -> dict[str, Any]:
    return {"at": f"2026-11-14T{clock}.123456Z", "workload": workload, "became": became, "replicas": replicas}


LEASE: dict[str, Any] = {
    "token": 41,
    "started_at": "2026-11-14T02:14:00.000Z",
    "seconds": 1901.0,
    "changes": [
        change("02:14:01", IMMICH, "set", 0),
        change("02:14:09", IMMICH, "gone", 0),
        change("02:14:10", SWAP, "set", 1),
        change("02:45:01", SWAP, "set", 0),
        change("02:45:06", IMMICH, "set", 1),
        change("02:45:31", IMMICH, "ready", 1),
    ],
    "left": [f"Deployment {IMMICH}: restored, at 1 replicas"],
}


def told(**session: Any) -> dict[str, list[str]]:
    return dict(rows({"running_samples": 900, "contamination": [], **session}))


def test_a_tenants_way_down_and_back_stands_with_its_times_and_who_gave_it_back() -> None:
    found = told(tenants={IMMICH: 1}, leases=[LEASE])
    assert found["Lease"] == ["token 41, taken 02:14:00 UTC, held 31 min 41 s"]
    way = "1 → 0 at 02:14:01, pods gone 02:14:09, 0 → 1 at 02:45:06, Ready 02:45:31 UTC"
    assert found[f"Tenant {IMMICH}"] == [way]
    assert found[f"Engine {SWAP}"] == ["0 → 1 at 02:14:10, 1 → 0 at 02:45:01 UTC"]
    assert found["Given back"] == [f"by its holder: Deployment {IMMICH}: restored, at 1 replicas"]
    assert found["Others on the card"] == ["none seen in 900 looks"]


def test_a_holder_that_died_gave_nothing_back() -> None:
    died = {"token": 41, "started_at": "2026-11-14T02:14:00.000Z", "seconds": None}
    found = told(tenants={IMMICH: 1}, leases=[died, LEASE])
    assert len(found["Lease"]) == len(found["Given back"]) == 2
    assert "not known" in found["Lease"][0]
    assert "the reaper puts back" in found["Given back"][0]


def test_on_one_machine_tenants_are_not_touched() -> None:
    one = {"token": 3, "started_at": "2026-11-14T02:14:00.000Z", "seconds": 60.0, "changes": [], "left": []}
    found = told(tenants={IMMICH: None}, leases=[one])
    assert found["Tenants"] == [f"{IMMICH}: not touched, they run in a cluster"]
    assert found["Given back"] == ["by its holder; nothing was to be put back"]


def test_what_a_session_file_does_not_say_is_not_known_and_never_guessed() -> None:
    assert rows({}) == []
    assert dict(rows({"id": "x"})) == {
        "Lease": ["not recorded"],
        "Tenants": ["not recorded"],
        "Given back": ["not recorded"],
        "Others on the card": ["nobody looked"],
    }
    found = told(tenants={IMMICH: 1}, leases=[{"token": 1, "started_at": "soon", "seconds": 5}])
    assert found["Lease"] == ["token 1, taken at a time not known, held 5.0 s"]
    assert found[f"Tenant {IMMICH}"] == ["found at 1; when it went and came back is not recorded"]


def test_a_foreign_file_of_another_shape_is_no_error_and_its_text_is_cut() -> None:
    for strange in ("x", 3, [None], {"a": []}, [["x"]], [{"changes": "no", "left": 4, "token": "t" * 500}]):
        for row in rows({"leases": strange, "tenants": strange, "contamination": strange, "running_samples": strange}):
            assert max(len(line) for line in row[1]) < 300


def test_others_that_were_seen_are_counted_by_what_they_did() -> None:
    signs = [{"what": "model"}, {"what": "memory"}, {"what": "model"}]
    assert told(contamination=signs)["Others on the card"] == ["3 signs of others (model and memory)"]
