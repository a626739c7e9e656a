"""The note says what to restore, and is a label that Kubernetes accepts."""

from __future__ import annotations

import re

import pytest

from llama_assets.gpu.errors import ForeignNote
from llama_assets.gpu.note import Note, holder_id, identity
from llama_assets.gpu.objects import LeaseObject, Ref, Standing, Workload


def test_a_note_is_read_as_it_was_written():
    note = Note(found=1, set=0, token=7, holder="3fa9c2d1")
    assert str(note) == "r1.s0.t7.3fa9c2d1"
    assert Note.parse(str(note)) == note


def test_a_note_of_any_size_is_a_label_value():
    label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")  # as Kubernetes documents it
    assert label.fullmatch(str(Note(2**31 - 1, 2**31 - 1, 2**31 - 1, "ffffffff")))


@pytest.mark.parametrize("text", ["", "held", "r1.t7", "r-1.s0.t7.3fa9c2d1", "r1.s0.t7.3fa9c2d1.x", "r1.s0.t7.xyz"])
def test_what_is_no_note_is_refused_by_name(text):
    with pytest.raises(ValueError, match="is not a note"):
        Note.parse(text)
    with pytest.raises(ForeignNote, match=r"kubectl -n immich label deployment ml llama-assets.io/lease-"):
        _ = Workload(Ref("Deployment", "immich", "ml"), "uid", "1", 1, text).note


def test_an_identity_is_never_had_twice_and_its_end_is_what_notes_bear():
    first, second = identity("bench"), identity("bench")
    assert first != second
    assert Note.parse(f"r1.s0.t7.{holder_id(first)}").holder == holder_id(first)


def lease(**changed):
    given = {"uid": "u", "version": "1", "token": 1, "holder": "a/1", "renewed_at": "t0", "lifetime_s": 60.0}
    return LeaseObject(**{**given, **changed})


def test_a_holder_is_dead_when_it_was_not_seen_to_renew_for_a_lifetime():
    observer = Standing()
    assert not observer.see(lease(), 1000.0).dead, (
        "a new observer has seen nothing yet, however old the renewal says it is"
    )
    assert not observer.see(lease(), 1059.9).dead
    assert observer.see(lease(), 1060.0).dead
    assert not observer.see(lease(renewed_at="t1"), 1061.0).dead, "it renewed"
    assert not observer.see(lease(renewed_at="t1", version="2"), 1100.0).dead
    assert observer.see(lease(renewed_at="t1", version="3"), 1121.0).dead, "a write that is no renewal proves no life"


def test_a_free_lease_is_nobodys_and_a_new_holder_has_a_lifetime_of_its_own():
    observer = Standing()
    observer.see(lease(), 0.0)
    assert not observer.see(lease(holder=None), 70.0).dead
    assert not observer.see(lease(token=2, holder="b/2"), 80.0).dead
    assert observer.silent_s(90.0) == 10.0
    assert not observer.see(None, 95.0).dead and observer.silent_s(95.0) == 0.0
