"""The client of Immich's API against the stand-in: what it finds, what it says when refused, what it tries again."""

from collections.abc import Callable, Iterator
from io import BytesIO

import pytest

from llama_assets.demo.immich import ME, OTHER, LoopbackImmich
from llama_assets.immich import (
    Immich,
    ImmichError,
    ImmichLimits,
    ManyAlbums,
    NoAlbum,
    NotImmich,
    NotPermitted,
    NotThere,
    OtherAlbum,
    TooLarge,
    TooOld,
    Trouble,
    WrongKey,
)

QUICK = ImmichLimits(timeout_s=5, attempts=3, first_wait_s=0.01)
READS = ("album.read", "asset.read", "asset.view", "asset.download", "user.read")


@pytest.fixture
def server() -> Iterator[LoopbackImmich]:
    with LoopbackImmich() as immich:
        yield immich


@pytest.fixture
def client(server: LoopbackImmich) -> Iterator[Immich]:
    with Immich(server.url, server.key(*READS), limits=QUICK) as client:
        yield client


def test_an_album_is_found_by_name_and_its_pictures_over_several_pages(server: LoopbackImmich, client: Immich) -> None:
    server.page_most = 3
    pictures = [server.picture(f"{n}.jpg", b"%d" % n) for n in range(8)]
    server.album("Travel", *pictures, server.picture("clip.mp4", b"v", kind="VIDEO"))
    server.album("Other", server.picture("x.jpg", b"x"))
    album = client.album("Travel")
    found = client.pictures(album)
    assert album.assets == 9
    assert [one.name for one in found] == [f"{n}.jpg" for n in range(8)]
    assert sum(path == "search/metadata" for _, path in server.asked) == 3


def test_an_address_may_end_in_api_and_an_album_may_be_named_by_its_id(server: LoopbackImmich) -> None:
    made = server.album("Travel")
    with Immich(f"{server.url}/api/", server.key(*READS)) as client:
        assert client.album(made).name == "Travel"


def test_favourites_and_stars_are_those_of_the_keys_user(server: LoopbackImmich, client: Immich) -> None:
    server.album(
        "Travel",
        server.picture("a.jpg", b"a", favourite=True, stars=5),
        server.picture("b.jpg", b"b", stars=-1),
        server.picture("partner.jpg", b"c", favourite=True, stars=2, owner=OTHER),
    )
    found = {one.name: (one.favourite, one.stars) for one in client.pictures(client.album("Travel"))}
    assert found == {"a.jpg": (True, 5), "b.jpg": (False, None), "partner.jpg": (None, 2)}


def test_without_user_read_favourites_are_unknown_and_stars_are_not(server: LoopbackImmich) -> None:
    server.album("Travel", server.picture("a.jpg", b"a", favourite=True, stars=4))
    with Immich(server.url, server.key("album.read", "asset.read")) as client:
        (found,) = client.pictures(client.album("Travel"))
    assert (found.favourite, found.stars) == (None, 4)


def test_no_album_and_two_of_one_name_are_errors_that_list_what_there_is(
    server: LoopbackImmich, client: Immich
) -> None:
    ids = {server.album("Travel"), server.album("Travel", owner=OTHER)}
    server.album("Home")
    with pytest.raises(NoAlbum, match="there are 'Home', 'Travel'"):
        client.album("travel")
    with pytest.raises(ManyAlbums) as many:
        client.album("Travel")
    assert all(made in str(many.value) for made in ids)


def test_originals_and_previews_are_different_bytes_and_need_different_permissions(server: LoopbackImmich) -> None:
    server.album("Travel", server.picture("a.heic", b"original" * 99, preview=b"preview"))
    with Immich(server.url, server.key("album.read", "asset.read", "asset.view")) as client:
        (asset,) = client.pictures(client.album("Travel"))
        into = BytesIO(b"longer than the preview is")
        assert client.download(asset, "previews", into) == 7 and into.getvalue() == b"preview"
        with pytest.raises(NotPermitted, match=r"assets/.*/original answered 403 .*permission asset\.download"):
            client.download(asset, "originals", into)


@pytest.mark.parametrize(
    ("lacks", "ask"),
    [
        ("album.read", lambda client: client.album("Travel")),
        ("asset.read", lambda client: client.pictures(client.album("Travel"))),
        ("queue.read", lambda client: client.queues()),
        ("queue.update", lambda client: client.pause("ocr")),
        ("job.create", lambda client: client.start_missing("ocr")),
    ],
)
def test_a_missing_permission_is_named(server: LoopbackImmich, lacks: str, ask: Callable[[Immich], object]) -> None:
    server.album("Travel")
    everything = {*READS, "queue.read", "queue.update", "job.create"}
    with (
        Immich(server.url, server.key(*(everything - {lacks}), admin=True), "VARIABLE", QUICK) as client,
        pytest.raises(NotPermitted) as refused,
    ):
        ask(client)
    assert f"permission {lacks}" in str(refused.value) and "VARIABLE" in str(refused.value)
    assert server.url in str(refused.value) and "403" in str(refused.value)


def test_a_key_that_is_not_known_is_said_and_never_shown(server: LoopbackImmich) -> None:
    with Immich(server.url, "sesame-1234", limits=QUICK) as client, pytest.raises(WrongKey) as refused:
        client.album("Travel")
    assert "401" in str(refused.value) and "LLAMA_ASSETS_IMMICH_KEY" in str(refused.value)
    assert "sesame" not in f"{refused.value!s}{refused.value!r}{client!r}"


@pytest.mark.parametrize("fault", [500, 503, 429, "cut"])
def test_what_passes_is_tried_again(server: LoopbackImmich, client: Immich, fault: int | str) -> None:
    server.album("Travel", server.picture("a.jpg", b"abc" * 1000))
    (asset,) = client.pictures(client.album("Travel"))
    server.fault("original", fault, times=2)
    into = BytesIO()
    assert client.download(asset, "originals", into) == 3000 and into.getvalue() == b"abc" * 1000


@pytest.mark.parametrize("fault", [500, "cut", "hang"])
def test_what_does_not_pass_is_an_error_with_the_address(server: LoopbackImmich, fault: int | str) -> None:
    server.fault("albums", fault, times=99)
    limits = ImmichLimits(timeout_s=0.2, attempts=2, first_wait_s=0.01)
    with Immich(server.url, server.key("all"), limits=limits) as client, pytest.raises(Trouble) as trouble:
        client.album("Travel")
    assert f"GET {server.url}/api/albums" in str(trouble.value) and trouble.value.transient
    assert sum(path == "albums" for _, path in server.asked) == 2


def test_nobody_at_the_address_is_trouble(server: LoopbackImmich) -> None:
    server.__exit__()
    with Immich(server.url, "k", limits=QUICK) as client, pytest.raises(Trouble, match="LLAMA_ASSETS_IMMICH_URL"):
        client.album("Travel")


def test_a_picture_that_is_gone_or_too_large_is_an_error_of_its_own(server: LoopbackImmich) -> None:
    server.album("Travel", server.picture("a.jpg", b"a" * 1000))
    limits = ImmichLimits(photo_bytes=999)
    with Immich(server.url, server.key("all"), limits=limits) as client:
        (asset,) = client.pictures(client.album("Travel"))
        with pytest.raises(TooLarge):
            client.download(asset, "originals", BytesIO())
        server.fault("original", 404)
        with pytest.raises(NotThere):
            client.download(asset, "originals", BytesIO())


def test_an_old_version_is_refused_by_its_number_and_a_newer_major_is_asked(server: LoopbackImmich) -> None:
    server.album("Travel")
    server.version = (1, 136, 9)
    with Immich(server.url, server.key("all")) as client, pytest.raises(TooOld, match=r"1\.136\.9.*1\.137\.0"):
        client.album("Travel")
    server.version = (9, 0, 0)
    with Immich(server.url, server.key("all")) as client:
        assert client.album("Travel").assets == 0 and client.version == "9.0.0"


def test_a_server_that_lists_more_than_the_album_is_not_believed(server: LoopbackImmich, client: Immich) -> None:
    server.album("Travel", server.picture("a.jpg", b"a"))
    server.album("Private", server.picture("b.jpg", b"b"))
    server.ignores_albums = True
    with pytest.raises(OtherAlbum, match="No photo is used"):
        client.pictures(client.album("Travel"))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, {"major": "one"}), "another shape"),
        ((200, b"<html>"), "something else than JSON"),
        ((302, {}), "put the address it leads to"),
    ],
)
def test_what_is_not_immich_is_said(server: LoopbackImmich, answer: tuple[int, object], says: str) -> None:
    server.answer = lambda *_: answer  # type: ignore[method-assign]
    with Immich(server.url, "k") as client, pytest.raises(NotImmich, match=says):
        client.album("Travel")


@pytest.mark.parametrize("version", [(1, 140, 0), (2, 3, 9), (2, 4, 0), (3, 1, 0)])
def test_queues_are_paused_resumed_and_started_in_each_version(
    server: LoopbackImmich, version: tuple[int, int, int]
) -> None:
    server.version = version
    server.queues["smartSearch"].waiting = 3
    key = server.key("queue.read", "queue.update", "job.read", "job.create", admin=True)
    with Immich(server.url, key) as client:
        client.pause("smartSearch")
        found = client.queues()["smartSearch"]
        assert found.paused and found.counts["paused"] == 3
        assert client.start_missing("smartSearch")
        client.resume("smartSearch")
        assert not client.queues()["smartSearch"].paused and server.queues["smartSearch"].starting
        server.queues["ocr"].active = 1
        assert client.start_missing("ocr") is False
    assert any(path == "queues" for _, path in server.asked) == (version >= (2, 4, 0))


def test_a_user_who_is_no_administrator_is_told_so(server: LoopbackImmich) -> None:
    with (
        Immich(server.url, server.key("all"), limits=QUICK) as client,
        pytest.raises(NotPermitted, match="administrator"),
    ):
        client.queues()


def test_every_error_is_one_of_the_rooms(server: LoopbackImmich) -> None:
    server.album("Travel", server.picture("a.jpg", b"a", owner=ME))
    for status in (400, 402, 404, 409, 418, 451, 501):
        server.fault("albums", status, times=9)
        with (
            Immich(server.url, server.key("all"), limits=QUICK) as client,
            pytest.raises(ImmichError, match=str(status)),
        ):
            client.album("Travel")
        server._faults.clear()
