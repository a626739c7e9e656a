"""What a model follows and selects: how many requests it takes, what counts as a change, what is told on trouble."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_assets.catalog import Model
from llama_assets.demo.hub import LoopbackHub
from llama_assets.hub import (
    FileNotFound,
    Forbidden,
    Gated,
    Hub,
    HubDown,
    HubError,
    HubLimits,
    NotAHub,
    NotAsked,
    RateLimited,
    RepoNotFound,
    Revision,
    RevisionNotFound,
    ServerError,
    Unauthorized,
    Watched,
    watch,
    watch_all,
)

from .conftest import IMPATIENT, MINICPM, QWEN

QWEN_FILE = "Qwen3VL-8B-Instruct-Q4_K_M.gguf"
QWEN_PROJECTOR = "mmproj-Qwen3VL-8B-Instruct-F16.gguf"


# -- head and resolve


def test_the_followed_commit_costs_one_small_request(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    commit = site.push(QWEN, {"README.md": "second"})
    assert hub.head(qwen) == commit
    assert site.counts() == {"api": 1}
    assert site.requests()[0].sent < 300


def test_a_revision_holds_both_files_of_one_commit_in_one_request(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    revision = hub.resolve(qwen)
    assert site.counts() == {"api": 1}
    assert (revision.repo, revision.followed, revision.commit) == (QWEN, "main", hub.head(qwen))
    assert [(f.path, f.role, len(f.sha256)) for f in revision.files] == [
        (QWEN_FILE, "model", 64), (QWEN_PROJECTOR, "mmproj", 64),
    ]  # fmt: skip
    assert revision.bytes == 9999 * len(QWEN_FILE + QWEN_PROJECTOR)


def test_a_branch_a_tag_and_a_commit_can_be_followed_and_an_old_commit_asked_for(
    site: LoopbackHub, hub: Hub, qwen: Model
) -> None:
    first = hub.head(qwen)
    site.push(QWEN, {"README.md": "tagged"}, tag="v1")
    side = site.push(QWEN, {QWEN_FILE: b"a", QWEN_PROJECTOR: b"b"}, branch="try/next")
    assert hub.resolve(qwen, first).commit == first
    assert hub.resolve(qwen.model_copy(update={"revision": "try/next"})).commit == side
    assert hub.resolve(qwen.model_copy(update={"revision": "v1"})).commit == hub.head(qwen)
    assert hub.resolve(qwen.model_copy(update={"revision": first})).commit == first


def test_the_fingerprint_is_that_of_the_bytes_and_their_roles_alone(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    before = hub.resolve(qwen)
    site.push(QWEN, {"new-Q4_K_M.gguf": QWEN_FILE.encode() * 9999, "README.md": "new name"}, remove=[QWEN_FILE])
    renamed = hub.resolve(qwen)
    assert (renamed.files[0].path, renamed.fingerprint) == ("new-Q4_K_M.gguf", before.fingerprint)
    site.push(QWEN, {QWEN_PROJECTOR: b"another projector"})
    assert hub.resolve(qwen).fingerprint != before.fingerprint
    swapped = [{**f, "role": {"model": "mmproj", "mmproj": "model"}[f["role"]]} for f in before.as_json()["files"]]
    assert Revision.from_json({**before.as_json(), "files": swapped}).fingerprint != before.fingerprint


def test_a_revision_survives_json(hub: Hub, qwen: Model) -> None:
    revision = hub.resolve(qwen)
    assert Revision.from_json(json.loads(json.dumps(revision.as_json()))) == revision


def test_a_renamed_repo_is_followed(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    site.rename(QWEN, "Qwen/Qwen3-VL-8B")
    revision = hub.resolve(qwen)
    with hub.stream(revision, revision.files[0], 0) as body:
        assert b"".join(body) == QWEN_FILE.encode() * 9999


def test_only_the_given_endpoint_is_asked_and_no_telemetry_is_sent(
    site: LoopbackHub, hub: Hub, qwen: Model, tmp_path: Path
) -> None:
    """A fresh process, because the library reads its environment when it is imported."""
    script = f"""
from llama_assets.catalog import Model
from llama_assets.hub import Hub
hub, model = Hub({site.url!r}), Model(**{qwen.model_dump()!r})
revision = hub.resolve(model, hub.head(model))
with hub.stream(revision, revision.files[1], 0) as body:
    print(sum(map(len, body)))
"""
    with LoopbackHub() as other:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DISABLE_TELEMETRY"))}
        ours = {"HF_ENDPOINT": other.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_not_handed_in"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=kept | ours, capture_output=True, text=True, check=True, timeout=60
        )
        assert int(done.stdout) == 9999 * len(QWEN_PROJECTOR)
        assert other.requests() == []
    assert site.counts() == {"api": 2, "resolve": 1, "cdn": 1}
    assert not any("authorization" in request.headers for request in site.requests())


# -- trouble


@pytest.mark.parametrize(
    ("arrange", "kind", "says"),
    [
        (lambda s: s.fail(503, times=None), ServerError, "api failed|try again later"),
        (lambda s: s.fail(500, times=None, body=b"<html>oops</html>"), ServerError, "500"),
        (lambda s: s.fail(429, times=None, retry_after_s=77), RateLimited, "try again in 77 s; with HF_TOKEN"),
        (lambda s: s.fail(200, body=b"<html>Log in</html>"), NotAHub, "check HF_ENDPOINT, and whether a proxy"),
        (lambda s: s.fail(200, body=b'{"error": "no"}'), NotAHub, "check HF_ENDPOINT"),
        (lambda s: s.fail(200, body=b"[1]"), NotAHub, "check HF_ENDPOINT"),
        (lambda s: s.fail(404, body=b"nginx"), NotAHub, "404 for Qwen"),
        (lambda s: s.fail(302, headers={"Location": "/api/models/" + QWEN}, times=None), NotAHub, "redirects"),
        (lambda s: s.delete(QWEN), RepoNotFound, f"no repo {QWEN} at .*check `repo` .*if it is private, set HF_TOKEN"),
        (lambda s: s.hide(QWEN), RepoNotFound, "set HF_TOKEN"),
        (lambda s: s.disable(QWEN), Forbidden, "disabled"),
        (lambda s: s.stop(), HubDown, "does not answer .*check the network and HF_ENDPOINT"),
        (lambda s: s.answer_late(30), HubDown, "no answer in time"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", [Hub.head, Hub.resolve])
def test_whatever_goes_wrong_is_an_error_of_ours_that_says_what_to_do(
    site: LoopbackHub,
    qwen: Model,
    arrange: Callable[[LoopbackHub], None],
    kind: type[HubError],
    says: str,
    call: Callable[[Hub, Model], object],
) -> None:
    hub = Hub(site.url, limits=HubLimits(api_timeout_s=0.3 if "in time" in says else 30, attempts=1))
    arrange(site)
    with pytest.raises(HubError) as caught:
        call(hub, qwen)
    assert type(caught.value) is kind
    assert re.search(says, str(caught.value))
    assert caught.value.transient is (kind in (ServerError, RateLimited, HubDown))
    assert caught.value.retry_after_s == (77 if kind is RateLimited else None)
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    "endpoint", ["http://no-such-host.invalid", "ftp://127.0.0.1", "http://127.0.0.1:1", "http://[bad"]
)
def test_an_address_that_is_no_hub_is_named_together_with_its_variable(endpoint: str, qwen: Model) -> None:
    with pytest.raises((HubDown, NotAHub), match=re.escape(endpoint)) as caught:
        Hub(endpoint, limits=IMPATIENT).head(qwen)
    assert "HF_ENDPOINT" in str(caught.value)


def test_a_connection_that_ends_without_an_answer_is_a_hub_that_is_down(qwen: Model) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        hub = Hub(f"http://127.0.0.1:{server.getsockname()[1]}", limits=HubLimits(attempts=1))
        with pytest.raises(HubDown, match="does not answer"):
            hub.head(qwen)


def test_a_token_opens_a_private_repo_and_a_wrong_one_is_named(site: LoopbackHub, qwen: Model) -> None:
    site.hide(QWEN, allowed=["hf_mine"])
    assert Hub(site.url, "hf_mine").resolve(qwen).repo == QWEN
    with pytest.raises(Unauthorized, match=r"does not accept the token in HF_TOKEN .*settings/tokens"):
        Hub(site.url, "hf_wrong").resolve(qwen)
    site.know("hf_other")
    with pytest.raises(RepoNotFound, match="the account of HF_TOKEN must see it"):
        Hub(site.url, "hf_other").resolve(qwen)


def test_an_unknown_revision_is_told_apart_from_a_commit_that_is_gone(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    with pytest.raises(RevisionNotFound, match=r"no revision dev in .*check `revision` in the catalog"):
        hub.head(qwen.model_copy(update={"revision": "dev"}))
    old = hub.head(qwen)
    site.push(QWEN, {"README.md": "squashed"})
    site.forget_history(QWEN)
    with pytest.raises(RevisionNotFound, match="its history was rewritten"):
        hub.resolve(qwen, old)


def test_offline_mode_is_named_and_not_waited_for(
    site: LoopbackHub, hub: Hub, qwen: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubDown, match="HF_HUB_OFFLINE is set: unset it") as caught:
        hub.head(qwen)
    assert not caught.value.transient and site.requests() == []


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_what_may_be_over_in_a_moment_is_asked_again(site: LoopbackHub, hub: Hub, qwen: Model, status: int) -> None:
    site.fail(status, times=2)
    assert hub.resolve(qwen).repo == QWEN
    assert site.count("api") == 3


def test_what_will_not_pass_is_asked_once(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    site.delete(QWEN)
    with pytest.raises(RepoNotFound):
        hub.head(qwen)
    assert site.count() == 1


def test_attempts_end_and_the_sensors_limits_allow_one(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    site.fail(503, times=None)
    with pytest.raises(ServerError):
        hub.head(qwen)
    assert site.count() == IMPATIENT.attempts
    site.forget_requests()
    with pytest.raises(ServerError):
        Hub(site.url, limits=HubLimits(attempts=1)).head(qwen)
    assert site.count() == 1


def test_retry_after_is_kept_to_and_a_long_one_is_told_instead_of_waited_for(
    site: LoopbackHub, hub: Hub, qwen: Model
) -> None:
    site.fail(429, retry_after_s=1)
    began = time.monotonic()
    hub.head(qwen)
    assert time.monotonic() - began >= 1
    site.fail(429, retry_after_s=61)
    with pytest.raises(RateLimited, match="in 61 s"):
        hub.head(qwen)
    assert site.count() == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit": '"api";r=0;t=42', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 42),
        ({"RateLimit": '"api";r=17;t=42'}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_the_wait_is_read_as_the_hub_and_the_http_standard_write_it(
    site: LoopbackHub, qwen: Model, headers: dict[str, str], seconds: float | None
) -> None:
    site.fail(429, headers=headers)
    with pytest.raises(RateLimited) as caught:
        Hub(site.url, limits=HubLimits(attempts=1)).head(qwen)
    assert caught.value.retry_after_s == seconds


# -- watch


def test_a_quiet_repo_costs_one_request_and_nothing_changed(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    seen = hub.resolve(qwen)
    site.forget_requests()
    watched = watch(hub, qwen, seen)
    assert (watched.revision, watched.moved, watched.changed) == (seen, False, ())
    assert site.counts() == {"api": 1}


@pytest.mark.parametrize(
    ("put", "remove"),
    [
        ({"README.md": "typo"}, []),
        ({"Qwen3VL-8B-Instruct-Q8_0.gguf": b"again", "mmproj-Qwen3VL-8B-Instruct-Q8_0.gguf": b"again"}, []),
        ({"q/Renamed-q4_k_m.gguf": QWEN_FILE.encode() * 9999}, [QWEN_FILE]),
    ],
    ids=["a README", "other quantizations", "a new name for the same bytes"],
)
def test_commits_that_leave_our_bytes_alone_are_seen_and_change_nothing(
    site: LoopbackHub, hub: Hub, qwen: Model, put: dict[str, bytes], remove: list[str]
) -> None:
    seen = hub.resolve(qwen)
    commit = site.push(QWEN, put, remove=remove)
    site.forget_requests()
    watched = watch(hub, qwen, seen)
    assert (watched.moved, watched.changed, watched.revision.commit) == (True, (), commit)
    assert watched.revision.fingerprint == seen.fingerprint
    assert site.counts() == {"api": 2}
    assert watch(hub, qwen, watched.revision).moved is False


def test_new_bytes_are_named_with_the_old_ones(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    seen = hub.resolve(qwen)
    site.push(QWEN, {QWEN_PROJECTOR: b"a better projector", "README.md": "new projector"})
    (change,) = watch(hub, qwen, seen).changed
    assert (change.role, change.part, change.old) == ("mmproj", 1, seen.files[1])
    assert change.new is not None and change.new.size == len(b"a better projector")


def test_a_model_that_becomes_split_has_new_parts(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    seen = hub.resolve(qwen)
    parts = {f"big-Q4_K_M-0000{n}-of-00002.gguf": bytes([n]) for n in (1, 2)}
    site.push(QWEN, parts, remove=[QWEN_FILE])
    changed = watch(hub, qwen, seen).changed
    assert [(c.role, c.part, c.old is None, c.new is None) for c in changed] == [
        ("model", 1, False, False), ("model", 2, True, False),
    ]  # fmt: skip


def test_nothing_seen_yet_means_all_is_new(site: LoopbackHub, hub: Hub, qwen: Model, minicpm: Model) -> None:
    watched = watch(hub, qwen, None)
    assert watched.moved and [c.new for c in watched.changed] == list(watched.revision.files)
    assert site.counts() == {"api": 1}
    assert watch(hub, minicpm, watched.revision).revision.repo == MINICPM  # the catalog names another repo now


def test_a_selected_file_that_was_renamed_with_new_bytes_is_an_error_with_candidates(
    site: LoopbackHub, hub: Hub, qwen: Model
) -> None:
    by_name = Model(id="m", repo=QWEN, file=QWEN_FILE, mmproj="F16")
    seen = hub.resolve(by_name)
    site.push(QWEN, {"Qwen3-VL-8B-Q4_K_M.gguf": b"new"}, remove=[QWEN_FILE])
    with pytest.raises(FileNotFound, match=r"Qwen3-VL-8B-Q4_K_M.gguf  quant Q4_K_M"):
        watch(hub, by_name, seen)


def test_many_are_watched_at_once_with_one_request_for_each_followed_revision(
    site: LoopbackHub, hub: Hub, qwen: Model, minicpm: Model
) -> None:
    gone = Model(id="gone", repo="org/gone", quant="Q4_K_M", mmproj="F16")
    twin = qwen.model_copy(update={"id": "twin", "quant": "Q8_0"})
    models = [qwen, twin, minicpm, gone]
    seen = {model.id: hub.resolve(model) for model in models[:3]} | {"gone": hub.resolve(qwen)}
    seen["gone"] = Revision("org/gone", "main", "0" * 40, seen["gone"].files)
    site.push(MINICPM, {"README.md": "moved"})
    site.forget_requests()
    watched = watch_all(hub, models, seen)
    assert list(watched) == ["qwen3vl-8b", "twin", "minicpm-v-4-5", "gone"]
    assert isinstance(watched["gone"], RepoNotFound)
    assert [w.moved for w in watched.values() if not isinstance(w, HubError)] == [False, False, True]
    assert site.count(of=QWEN) == 1 and site.count(of=MINICPM) == 2 and site.count(of="org/gone") == 1


def test_models_of_one_repo_share_what_a_new_commit_holds(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    twin = qwen.model_copy(update={"id": "twin", "quant": "Q8_0"})
    new = qwen.model_copy(update={"id": "new", "quant": "Q9_0"})
    seen = {model.id: hub.resolve(model) for model in (qwen, twin)}
    site.push(QWEN, {"README.md": "moved"})
    site.forget_requests()
    watched = watch_all(hub, [qwen, twin, new], seen)
    assert site.count() == 2 and isinstance(watched.pop("new"), FileNotFound)
    assert [w.moved for w in watched.values() if not isinstance(w, HubError)] == [True, True]


def test_once_the_hub_limits_requests_the_others_are_not_asked(site: LoopbackHub, qwen: Model, minicpm: Model) -> None:
    hub = Hub(site.url, limits=HubLimits(attempts=1, at_once=1))
    site.fail(429, times=None, retry_after_s=33)
    watched = watch_all(hub, [minicpm, qwen], {})
    assert [type(answer) for answer in watched.values()] == [RateLimited, NotAsked]
    assert [answer.retry_after_s for answer in watched.values() if isinstance(answer, HubError)] == [33, 33]
    assert site.count() == 1
    assert "because it limits requests (429)" in str(watched["qwen3vl-8b"])


def test_when_the_time_is_up_nobody_is_asked(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    seen = {qwen.id: hub.resolve(qwen)}
    site.forget_requests()
    assert isinstance(watch_all(hub, [qwen], seen, until=time.monotonic())[qwen.id], NotAsked)
    assert site.count() == 0


def test_a_gate_is_seen_before_a_download_meets_it(site: LoopbackHub, hub: Hub, qwen: Model) -> None:
    """What a gated repo holds stays public, so that a look alone would be none the wiser."""
    seen = hub.resolve(qwen)
    site.gate(QWEN, allowed=["hf_mine"])
    site.know("hf_other")
    for token, says in ((None, "no token was sent"), ("hf_other", "has no access yet")):
        with pytest.raises(Gated, match=says):
            watch(Hub(site.url, token, IMPATIENT), qwen, seen)
    mine = Hub(site.url, "hf_mine", IMPATIENT)
    site.forget_requests()
    assert watch(mine, qwen, seen).gated and site.counts() == {"api": 1, "resolve": 1}
    site.forget_requests()
    assert isinstance(watch_all(mine, [qwen], {qwen.id: seen}, let_in={qwen.id})[qwen.id], Watched)
    assert site.counts() == {"api": 1}
