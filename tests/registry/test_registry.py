"""What a registry says of an image, asked over real HTTP; and how images are named."""

from __future__ import annotations

import base64
import json

import pytest

from llama_assets.registry import (
    Denied,
    NotAReference,
    NotARegistry,
    NotThere,
    RateLimited,
    Reference,
    Registry,
    RegistryLimits,
    ServerError,
    Unreachable,
)
from llama_assets.registry_login import BadLogins, Logins
from tests.registry.loopback import LoopbackRegistry, always, once

LIMITS = RegistryLimits(timeout_s=5, first_wait_s=0.01, longest_wait_s=1)
GONE = f"sha256:{'0' * 64}"


@pytest.fixture
def registry():
    with Registry(LIMITS) as found:
        yield found


def image(site: LoopbackRegistry, tag: str = "cuda") -> Reference:
    return Reference.parse(f"{site.host}/team/swap:{tag}")


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("ghcr.io/mostlygeek/llama-swap:cuda", "ghcr.io/mostlygeek/llama-swap:cuda"),
        ("alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine:3", "docker.io/library/alpine:3"),
        ("team/swap", "docker.io/team/swap:latest"),
        ("localhost/swap:a", "localhost/swap:a"),
        ("host:5000/a/b/c", "host:5000/a/b/c:latest"),
        (f"quay.io/a/b@{GONE}", f"quay.io/a/b@{GONE}"),
        (f"quay.io/a/b:t@{GONE}", f"quay.io/a/b:t@{GONE}"),
    ],
)
def test_what_a_name_leaves_out_is_filled_in_by_dockers_rules(text, full):
    assert str(Reference.parse(text)) == full
    assert Reference.parse(full) == Reference.parse(text)


@pytest.mark.parametrize("text", ["", "Upper/case", "a:b:c", "a@sha256:12", "a b", "quay.io/", "a:", "../x", "a@"])
def test_what_is_no_name_is_said_to_be_none(text):
    with pytest.raises(NotAReference, match="names no image"):
        Reference.parse(text)


def test_docker_hub_is_asked_where_it_really_is_and_only_this_machine_without_tls():
    with Registry(plain_http="lan:5000") as registry:
        assert registry._address("docker.io") == "https://registry-1.docker.io"
        assert registry._address("ghcr.io") == "https://ghcr.io"
        assert registry._address("192.168.1.2:5000") == "https://192.168.1.2:5000"
        assert registry._address("lan:5000") == "http://lan:5000"
        for here in ("localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"):
            assert registry._address(here) == f"http://{here}"


def test_a_tag_is_asked_for_its_digest_by_one_head(site, registry):
    digest = site.push("team/swap", "cuda", "first")
    assert registry.digest_of(image(site)) == digest
    assert site.heard == [("HEAD", "/v2/team/swap/manifests/cuda")]
    newer = site.push("team/swap", "cuda", "second")
    assert registry.digest_of(image(site).pinned(digest)) == newer != digest
    assert registry.exists(image(site).pinned(digest)) and not registry.exists(image(site).pinned(GONE))


def test_a_registry_that_wants_a_token_is_asked_for_anybodys_once(site, registry):
    site.tokens = True
    digest = site.push("team/swap", "cuda", "first")
    assert registry.digest_of(image(site)) == digest
    assert registry.digest_of(image(site)) == digest
    assert [method for method, _ in site.heard] == ["HEAD", "GET", "HEAD", "HEAD"]
    assert site.heard[1][1].startswith("/token?kind=pull&service=loopback%2C")
    assert site.scopes == ["repository:team/swap:pull"]


def config(folder, site, **auths) -> Logins:
    """A Docker config file with a login for this registry."""
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {name.replace("HERE", site.host): entry for name, entry in auths.items()}}))
    return Logins(path)


def coded(login: str) -> dict[str, str]:
    return {"auth": base64.b64encode(login.encode()).decode()}


@pytest.mark.parametrize("tokens", [True, False], ids=["a token for the login", "the login itself"])
@pytest.mark.parametrize(
    "auths",
    [
        {"HERE": coded("me:s3cret")},
        {"https://HERE/v2/": {"username": "me", "password": "s3cret"}},
        {"HERE/team": coded("me:s3cret"), "HERE": coded("other:x"), "HERE/team/swapped": coded("other:y")},
    ],
    ids=["auth", "username and password", "of the longest path"],
)
def test_a_private_registry_is_asked_with_the_login_of_a_docker_config_file(site, tmp_path, tokens, auths):
    site.private, site.tokens = "me:s3cret", tokens
    digest = site.push("team/swap", "cuda", "first")
    with Registry(LIMITS, logins=config(tmp_path, site, **auths)) as registry:
        assert registry.digest_of(image(site)) == digest and registry.exists(image(site).pinned(digest))


def test_without_a_login_that_is_enough_it_says_where_one_was_looked_for_and_not_what_it_is(site, tmp_path):
    site.private, site.tokens = "me:s3cret", True
    site.push("team/swap", "cuda", "first")
    for logins, says in (
        (Logins(tmp_path / "none.json"), r"none.json has no login for it: `docker login`, or name the Docker config"),
        (Logins(), "there is no login for it"),
        (config(tmp_path, site, HERE=coded("me:expired")), r"the login of \S*config.json is not enough"),
    ):
        with Registry(LIMITS, logins=logins) as registry, pytest.raises(Denied, match=says) as found:
            registry.digest_of(image(site))
        assert "expired" not in str(found.value) and coded("me:expired")["auth"] not in str(found.value)


def test_a_file_that_is_no_docker_config_is_named(site, tmp_path):
    site.private = "me:s3cret"
    (tmp_path / "config.json").write_text('{"auths": ["HERE"]}')
    with Registry(LIMITS, logins=Logins(tmp_path / "config.json")) as registry, pytest.raises(BadLogins, match="auths"):
        registry.digest_of(image(site))


def test_a_login_is_for_its_own_registry_and_docker_hubs_goes_by_its_old_name(tmp_path):
    logins = Logins(tmp_path / "config.json")
    entries = {"https://index.docker.io/v1/": coded("me:hub"), "ghcr.io": coded("me:gh"), "quay.io": {}}
    logins.path.write_text(json.dumps({"auths": entries}))
    of = {name: logins.of(Reference.parse(name)) for name in ("alpine", "ghcr.io/a/b", "quay.io/a/b", "ghcr.io.evil/a")}
    assert {name: found and base64.b64decode(found.basic.split()[1]).decode() for name, found in of.items()} == {
        "alpine": "me:hub", "ghcr.io/a/b": "me:gh", "quay.io/a/b": None, "ghcr.io.evil/a": None,
    }  # fmt: skip


def test_a_digest_that_is_not_named_is_the_hash_of_the_manifest(site, registry):
    site.names_digest = False
    digest = site.push("team/swap", "cuda", "first")
    assert registry.digest_of(image(site)) == digest
    assert [method for method, _ in site.heard] == ["HEAD", "GET"]


def test_a_redirect_is_followed_and_the_token_stays_at_home(site, registry):
    other = LoopbackRegistry()
    try:
        digest = other.push("team/swap", "cuda", "first")
        seen = []

        def record(handler):
            seen.append(handler.headers.get("Authorization"))

        other.faults = [record]
        site.tokens = True

        def elsewhere(handler):
            if handler.headers.get("Authorization") is None or not handler.path.startswith("/v2/"):
                return False
            handler.answer(307, b"", {"Location": f"http://{other.host}{handler.path}"})
            return True

        site.faults = [elsewhere]
        assert registry.digest_of(image(site)) == digest
        assert seen == [None]
    finally:
        other.close()


def test_a_tag_that_is_not_there_names_image_and_registry_and_what_to_correct(site, registry):
    with pytest.raises(NotThere) as caught:
        registry.digest_of(image(site, "cuba"))
    assert all(part in str(caught.value) for part in ("team/swap:cuba", site.host, "404", "LLAMA_ASSETS_ENGINE_IMAGE"))


def test_401_for_ever_is_a_refusal_and_ends(site, registry):
    site.faults = [always(401, headers={"WWW-Authenticate": f'Bearer realm="http://{site.host}/token"'})]
    with pytest.raises(Denied, match="private or not there"):
        registry.digest_of(image(site))
    assert len(site.heard) == 3


def test_a_registry_that_wants_a_password_is_a_refusal(site, registry):
    site.faults = [always(401, headers={"WWW-Authenticate": 'Basic realm="secret"'})]
    with pytest.raises(Denied, match="wants Basic credentials"):
        registry.exists(image(site).pinned(GONE))


def test_a_token_server_that_is_lost_does_not_make_the_image_lost(site, registry):
    site.tokens = True
    site.faults = [always(404, path="/token")]
    with pytest.raises(NotARegistry, match="gives no token"):
        registry.exists(image(site).pinned(GONE))


def test_429_is_waited_for_as_told_and_a_long_wait_is_told(site, registry):
    digest = site.push("team/swap", "cuda", "first")
    site.faults = [once(always(429, headers={"Retry-After": "0"}))]
    assert registry.digest_of(image(site)) == digest and len(site.heard) == 2
    site.faults = [always(429, headers={"Retry-After": "3600"})]
    with pytest.raises(RateLimited, match="in 3600 s") as caught:
        registry.digest_of(image(site))
    assert caught.value.retry_after_s == 3600 and len(site.heard) == 3
    site.faults = [always(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})]
    with pytest.raises(RateLimited) as caught:
        registry.digest_of(image(site))
    assert caught.value.retry_after_s == 0


def test_500_is_tried_again_and_told_in_the_end(site, registry):
    digest = site.push("team/swap", "cuda", "first")
    site.faults = [once(always(503))]
    assert registry.digest_of(image(site)) == digest
    site.faults = [always(500)]
    with pytest.raises(ServerError, match="answered 500"):
        registry.exists(image(site).pinned(digest))
    assert len(site.heard) == 2 + LIMITS.attempts


def test_an_answer_for_browsers_is_no_registrys(site, registry):
    def page(handler):
        handler.answer(404, b"<h1>Not found</h1>", kind="text/html")
        return True

    site.faults = [page]
    with pytest.raises(NotARegistry, match="web page"):
        registry.exists(image(site).pinned(GONE))


def test_nobody_there_is_trouble_that_may_pass(site, registry):
    site.close()
    with pytest.raises(Unreachable, match="does not answer") as caught:
        registry.digest_of(image(site))
    assert caught.value.transient


def test_a_body_that_does_not_end_is_given_up(site):
    site.names_digest = False
    site.push("team/swap", "cuda", "x" * 2000)
    with Registry(RegistryLimits(attempts=1, manifest_bytes=1000)) as registry, pytest.raises(Unreachable):
        registry.digest_of(image(site))
