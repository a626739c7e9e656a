"""The bytes of a pinned file: what arrives is right or the error says what happened, and nothing is lost before it."""

import re
import tracemalloc
from collections.abc import Callable

import pytest

from llama_assets.catalog import Model
from llama_assets.demo.hub import Fault, LoopbackHub, Zeros
from llama_assets.hub import (
    Cut,
    FileChanged,
    FileNotFound,
    Gated,
    Hub,
    HubDown,
    HubError,
    LinkExpired,
    NotAHub,
    RateLimited,
    RemoteFile,
    RepoNotFound,
    Revision,
    RevisionNotFound,
    ServerError,
    Unauthorized,
    WrongAnswer,
)

from .conftest import IMPATIENT, QWEN

CONTENT = bytes(range(256)) * 4096  # 1 MiB
NAME = "m-Q4_K_M.gguf"
REPO = "org/m-GGUF"
M = Model(id="m", repo=REPO, quant="Q4_K_M", mmproj="F16")


@pytest.fixture
def pinned(site: LoopbackHub, hub: Hub) -> Revision:
    site.push(REPO, {NAME: CONTENT, "mmproj-F16.gguf": b"p" * 1000})
    revision = hub.resolve(M)
    site.forget_requests()
    return revision


def read(hub: Hub, revision: Revision, start: int = 0) -> tuple[bytes, HubError | None, int]:
    """(the bytes that arrived, the error that ended them if one did, where the body began)."""
    blocks, began = [], start
    try:
        with hub.stream(revision, revision.files[0], start) as body:
            began = body.start
            for block in body:
                assert 0 < len(block) <= IMPATIENT.block_bytes
                blocks.append(block)
    except HubError as error:
        return b"".join(blocks), error, began
    return b"".join(blocks), None, began


@pytest.mark.parametrize("start", [0, 1, 65536, len(CONTENT) - 1])
def test_a_file_arrives_from_any_byte_on(site: LoopbackHub, hub: Hub, pinned: Revision, start: int) -> None:
    assert read(hub, pinned, start) == (CONTENT[start:], None, start)
    assert site.counts() == {"resolve": 1, "cdn": 1}


def test_a_start_that_is_not_in_the_file_is_a_mistake_of_the_caller(
    site: LoopbackHub, hub: Hub, pinned: Revision
) -> None:
    for start in (-1, len(CONTENT)):
        with pytest.raises(ValueError, match="bytes 0 to 1048575"), hub.stream(pinned, pinned.files[0], start):
            pass
    assert site.requests() == []


def test_each_call_asks_for_a_new_address(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    site.links_work(times=1)
    for _ in range(3):
        assert read(hub, pinned)[1] is None
    assert len({request.query["key"][0] for request in site.requests("cdn")}) == 3


def test_the_token_goes_to_the_hub_and_never_to_the_cdn(site: LoopbackHub, pinned: Revision) -> None:
    site.gate(REPO, allowed=["hf_mine"])
    hub = Hub(site.url, "hf_mine", IMPATIENT)
    assert read(hub, hub.resolve(M))[0] == CONTENT
    assert {r.headers.get("authorization") for r in site.requests("api")} == {"Bearer hf_mine"}
    assert {r.headers.get("authorization") for r in site.requests("resolve")} == {"Bearer hf_mine"}
    assert {r.headers.get("authorization") for r in site.requests("cdn")} == {None}


def test_the_first_bytes_are_had_without_the_rest(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    assert hub.header(pinned, pinned.files[0], 100) == CONTENT[:100]
    assert hub.header(pinned, pinned.files[1], 9999) == b"p" * 1000
    assert [request.sent for request in site.requests("cdn")] == [100, 1000]
    site.ignore_range()
    assert hub.header(pinned, pinned.files[0], 100) == CONTENT[:100]


@pytest.mark.parametrize("by", ["fin", "reset"])
@pytest.mark.parametrize("start", [0, 300_000])
def test_a_body_that_breaks_off_hands_out_all_that_came_and_can_go_on_there(
    site: LoopbackHub, hub: Hub, pinned: Revision, by: str, start: int
) -> None:
    site.cut_after(500_000, by=by)  # type: ignore[arg-type]
    blocks, error, _ = read(hub, pinned, start)
    assert type(error) is Cut and error.transient
    assert blocks == CONTENT[start:500_000]
    assert read(hub, pinned, 500_000)[0] == CONTENT[500_000:]


def test_a_body_that_stalls_is_cut_and_says_for_how_long(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    site.stall_after(500_000, seconds=60)
    blocks, error, _ = read(hub, pinned)
    assert type(error) is Cut and "sent no byte for 1 s: what has arrived is kept, try again" in str(error)
    assert blocks == CONTENT[:500_000]


def test_a_slow_body_that_keeps_coming_is_not_cut(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    site.slow_down(bytes_per_s=6e5)  # more than the limit in all, pieces of 64 KiB
    assert read(hub, pinned)[0] == CONTENT


def test_a_server_that_ignores_the_range_is_seen_in_where_the_body_begins(
    site: LoopbackHub, hub: Hub, pinned: Revision
) -> None:
    site.ignore_range()
    assert read(hub, pinned, 300_000) == (CONTENT, None, 0)


def test_wrong_bytes_of_the_right_length_arrive_as_they_are(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    """The digest is the store's business: this room hands on what came."""
    site.flip_byte(12345)
    blocks, error, _ = read(hub, pinned)
    assert error is None
    assert [at for at, (a, b) in enumerate(zip(blocks, CONTENT, strict=True)) if a != b] == [12345]


@pytest.mark.parametrize(
    ("arrange", "kind", "says"),
    [
        (lambda s: s.links_last(seconds=0), LinkExpired, "the signed address has expired"),
        (lambda s: s.when_asked(s.expire_links, on="cdn"), LinkExpired, "a new one is asked for"),
        (lambda s: s.fail(429, on="cdn", retry_after_s=9), RateLimited, "try again in 9 s"),
        (lambda s: s.fail(500, on="cdn"), ServerError, "status 500"),
        (lambda s: s.fail(503, on="cdn", retry_after_s=9), ServerError, "try again in 9 s"),
        (lambda s: s.fail(404, on="cdn"), WrongAnswer, "status 404"),
        (lambda s: s.answer_size(1234), WrongAnswer, "1234 bytes where 1048576 were expected: .*proxy"),
        (lambda s: s.fail(206, on="cdn", headers={"Content-Range": "bytes 7-9/10"}), WrongAnswer, "bytes 7-9/10"),
        (lambda s: s.fail(302, on="cdn", times=None, headers={"Location": "/x"}), WrongAnswer, "too many redirects"),
        (lambda s: s.cut_after(0, by="reset"), Cut, f"{NAME} of {REPO}"),
        (lambda s: s.answer_late(30, on="cdn"), Cut, "sent no byte for 1 s"),
        (lambda s: s.fail(503, on="resolve"), ServerError, "failed"),
        (lambda s: s.fail(429, on="resolve", retry_after_s=9), RateLimited, "try again in 9 s"),
        (lambda s: s.fail(200, on="resolve", body=b"<html>"), NotAHub, "no X-Repo-Commit"),
        (lambda s: s.stop(), HubDown, "check the network and HF_ENDPOINT"),
        (lambda s: s.when_asked(lambda: s.stop("cdn"), on="resolve"), HubDown, "does not answer"),
        (lambda s: s.gate(REPO), Gated, f"no token was sent: ask for access at .*/{REPO}, then set HF_TOKEN"),
        (lambda s: s.hide(REPO), RepoNotFound, "set HF_TOKEN"),
        (lambda s: s.delete(REPO), RepoNotFound, "check `repo` in the catalog"),
        (lambda s: (s.push(REPO, {}), s.forget_history(REPO)), RevisionNotFound, "its history was rewritten"),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_before_the_first_byte_is_an_error_of_ours(
    site: LoopbackHub,
    hub: Hub,
    pinned: Revision,
    arrange: Callable[[LoopbackHub], None],
    kind: type[HubError],
    says: str,
) -> None:
    arrange(site)
    blocks, error, _ = read(hub, pinned)
    assert type(error) is kind and blocks == b""
    assert re.search(says, str(error))
    assert error.retry_after_s == (9 if "in 9 s" in says else None)
    assert error.transient is (kind in (LinkExpired, RateLimited, ServerError, WrongAnswer, Cut, HubDown))
    assert not any(request.query.get("key", ["(none)"])[0] in str(error) for request in site.requests("cdn"))


def test_the_environments_proxy_is_taken_for_bodies_too_and_its_exceptions_are_kept(
    hub: Hub, pinned: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert type(read(hub, pinned)[1]) is HubDown
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read(hub, pinned)[0] == CONTENT


def test_one_call_is_one_attempt(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    site.fail(503, on="cdn", times=None)
    assert type(read(hub, pinned)[1]) is ServerError
    assert site.counts() == {"resolve": 1, "cdn": 1}


def test_a_gate_tells_who_is_known_where_to_ask(site: LoopbackHub, pinned: Revision) -> None:
    site.gate(REPO)
    site.know("hf_known")
    error = read(Hub(site.url, "hf_known"), pinned)[1]
    assert type(error) is Gated and f"HF_TOKEN has no access yet: ask for it at {site.url}/{REPO}" in str(error)
    assert type(read(Hub(site.url, "hf_wrong"), pinned)[1]) is Unauthorized


def test_a_file_that_the_pinned_commit_does_not_have_says_to_look_again(
    site: LoopbackHub, hub: Hub, pinned: Revision
) -> None:
    ghost = RemoteFile("ghost.gguf", 10, "0" * 64, "model")
    with pytest.raises(FileNotFound, match=r"no file ghost.gguf in .*materialize the model again"):
        hub.stream(pinned, ghost, 0).__enter__()


def test_other_bytes_than_were_pinned_are_refused_before_they_are_read(
    site: LoopbackHub, hub: Hub, pinned: Revision
) -> None:
    model = pinned.files[0]
    other = RemoteFile(model.path, model.size, "f" * 64, "model")
    with pytest.raises(FileChanged, match=r"was listed as 1048576 bytes, sha256 ffff.* and is now 1048576 bytes"):
        hub.stream(pinned, other, 0).__enter__()
    assert site.count("cdn") == 0


def test_an_address_that_leads_to_another_file_is_seen_by_its_tag(
    site: LoopbackHub, hub: Hub, pinned: Revision
) -> None:
    headers = {"ETag": f'"{"a" * 64}"'}
    site.fail(200, on="cdn", headers=headers, body=b"q" * len(CONTENT))
    error = read(hub, pinned)[1]
    assert type(error) is WrongAnswer and "a file of sha256 aaaa" in str(error)


def test_errors_of_the_reader_stay_the_readers(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    for mine in (OSError(28, "No space left on device"), ConnectionResetError("mine"), KeyboardInterrupt()):

        def fail(_: bytes, mine: BaseException = mine) -> None:
            raise mine

        with pytest.raises(type(mine)) as caught, hub.stream(pinned, pinned.files[0], 0) as body:
            list(map(fail, body))
        assert caught.value is mine


def test_closing_early_hangs_up(site: LoopbackHub, hub: Hub) -> None:
    site.push(REPO, {NAME: Zeros(256 << 20), "mmproj-F16.gguf": b"p"})
    revision = hub.resolve(M)
    with hub.stream(revision, revision.files[0], 0) as body:
        assert next(iter(body)).count(0) > 0
    site.stop()  # waits for nobody, ends what is open
    assert site.requests("cdn")[0].sent < 256 << 20


def test_a_commit_pushed_half_way_does_not_mix_in(site: LoopbackHub, hub: Hub, pinned: Revision) -> None:
    site.play(Fault("cdn", call_at=500_000, call=lambda: site.push(REPO, {NAME: b"new" * 1000}), cut_at=600_000))
    first, error, _ = read(hub, pinned)
    assert type(error) is Cut and hub.head(M) != pinned.commit
    assert first + read(hub, pinned, len(first))[0] == CONTENT


def test_a_large_body_needs_little_memory(site: LoopbackHub, hub: Hub) -> None:
    site.push(REPO, {NAME: Zeros(64 << 20), "mmproj-F16.gguf": b"p"})
    revision = hub.resolve(M)
    tracemalloc.start()
    with hub.stream(revision, revision.files[0], 0) as body:
        tracemalloc.reset_peak()
        assert sum(len(block) for block in body) == 64 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_the_seeds_repo_streams_under_its_real_names(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    revision = hub.resolve(qwen)
    assert revision.repo == QWEN
    assert read(hub, revision)[0] == revision.files[0].path.encode() * 9999
