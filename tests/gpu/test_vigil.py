"""Looking about once a minute: silence, tenants left down and a dead reaper are told, and nothing is told twice."""

from __future__ import annotations

from llama_assets.gpu.objects import LeaseObject
from llama_assets.gpu.vigil import Look, Vigil

DOWN = ("Deployment immich/ml at 0 (r1.s0.t7.3fa9c2d1)",)


def lease(renewed_at="t0", holder="bench/3fa9c2d1"):
    return LeaseObject("u", "1", 7, holder, "a benchmark", "then", renewed_at, 60.0)


def series(*looks):
    """The news of looks a minute apart, with a heart that beats unless the look says otherwise."""
    vigil, news = Vigil(), []
    for at, look in enumerate(looks):
        vigil, told = vigil.see(look, 1000.0 + 60 * at)
        vigil = Vigil.from_json(vigil.to_json())
        news.append(told)
    return news


def test_a_card_that_is_free_and_a_reaper_that_beats_are_good_from_the_second_look():
    first, second, third = series(Look(None, "b0", ()), Look(None, "b1", ()), Look(None, "b2", ()))
    assert first.changed and first.good is None and not first.turned, "one look cannot tell whether a reaper beats"
    assert second.good and second.turned and not second.changed
    assert third.good and not third.turned and not third.changed


def test_a_holder_that_renews_is_good_however_long_it_holds():
    news = series(*(Look(lease(f"t{at}"), f"b{at}", DOWN) for at in range(10)))
    assert [told.changed for told in news] == [True] + [False] * 9
    assert all(told.good for told in news[1:])


def test_a_silent_holder_with_tenants_down_is_told_a_minute_after_its_lifetime_and_once():
    news = series(*(Look(lease(), f"b{at}", DOWN) for at in range(5)))
    assert [told.good for told in news] == [None, True, False, False, False]
    assert [told.turned for told in news] == [False, True, True, False, False]
    assert (
        "bench/3fa9c2d1 has the card and has not renewed for 120 s; still down: Deployment immich/ml"
        in (news[2].troubles[0])
    )
    assert "reap --once" in news[2].troubles[-1]


def test_a_silent_holder_is_told_too_where_notes_may_not_be_seen_and_not_where_none_is_left():
    assert series(*(Look(lease(), f"b{at}", None) for at in range(3)))[2].troubles[0].endswith("may still be down")
    assert not series(*(Look(lease(), f"b{at}", ()) for at in range(3)))[2].troubles


def test_tenants_that_stay_down_after_the_card_is_free_are_told():
    free = lease(holder=None)
    news = series(*(Look(free, f"b{at}", DOWN) for at in range(3)))
    assert news[2].good is False and "nobody has had the card for 120 s" in news[2].troubles[0]
    assert series(Look(free, "b0", DOWN), Look(free, "b1", ()), Look(free, "b2", DOWN), Look(free, "b3", DOWN))[3].good


def test_a_reaper_that_does_not_beat_is_told_unless_nobody_asked_for_one():
    news = series(Look(None, "b0", ()), Look(None, "b1", ()), Look(None, "b1", ()), Look(None, "b2", ()))
    assert [told.good for told in news] == [None, True, False, True]
    assert "no reaper beats (its last beat is b1)" in news[2].troubles[0]
    assert "it has never beaten" in series(Look(None, None, ()), Look(None, None, ()))[1].troubles[0]
    assert series(Look(None, None, (), heart_matters=False))[0].good


def test_looks_that_could_not_be_taken_count_for_nothing():
    vigil, _ = Vigil().see(Look(lease(), "b0", DOWN), 0.0)
    vigil, told = vigil.blind().see(Look(lease(), "b0", DOWN), 600.0)
    assert not told.troubles, "the API server was away: it could not renew"
    _, told = vigil.see(Look(lease(), "b1", DOWN), 720.0)
    assert told.troubles, "and it still does not"
    late, _ = Vigil().see(Look(lease(), "b0", DOWN), 0.0)
    assert not late.see(Look(lease(), "b0", DOWN), 3600.0)[1].troubles, "the daemon was down: two looks are no series"


def test_what_another_version_remembered_is_a_vigil_that_begins():
    for text in (None, "", "{", '{"other": 1}', "[]"):
        assert Vigil.from_json(text) == Vigil()
