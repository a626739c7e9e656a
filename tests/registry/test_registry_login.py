"""Logins that a Docker config file does not hold itself: credential helpers, and identity tokens.

Helpers are programs on PATH, as Docker's are; what they keep is a file, and what they were asked is another one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from llama_assets.registry import Denied, NotARegistry, Reference, Registry, RegistryLimits
from llama_assets.registry_login import BadLogins, HelperFailed, LoginLimits, Logins
from tests.registry.loopback import LoopbackRegistry, always
from tests.registry.test_registry import LIMITS, coded, image

ASKED = 'echo "$1 $(cat)" >> "$(dirname "$0")/asked"; '
LIMITS_OF_LOGINS = LoginLimits(helper_s=60)
NONE_KEPT = ASKED + 'echo "credentials not found in native keychain"; exit 1'


@dataclass
class Place:
    """A folder on PATH with helpers, and a Docker config file."""

    folder: Path

    def helper(self, name: str, does: str) -> None:
        path = self.folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def keeps(self, name: str, user: str, secret: str) -> None:
        """A helper that answers so."""
        kept = json.dumps({"ServerURL": "whatever", "Username": user, "Secret": secret})
        self.helper(name, f"{ASKED}cat << 'END'\n{kept}\nEND")

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def logins(self, limits: LoginLimits = LIMITS_OF_LOGINS, **config: object) -> Logins:
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        return Logins(path, limits)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return Place(tmp_path)


def digest_of(site: LoopbackRegistry, logins: Logins, limits: RegistryLimits = LIMITS) -> str:
    with Registry(limits, logins=logins) as registry:
        found = registry.digest_of(image(site))
        assert registry.exists(image(site).pinned(found))
        return found


@pytest.mark.parametrize("tokens", [True, False], ids=["a token for the login", "the login itself"])
@pytest.mark.parametrize("by", ["credHelpers", "credsStore"])
def test_a_helper_of_the_registry_or_of_all_is_asked_once_by_the_registrys_name(site, place, tokens, by):
    site.private, site.tokens = "me:s3cret", tokens
    digest = site.push("team/swap", "cuda", "first")
    place.keeps("mine", "me", "s3cret")
    other = {"credHelpers": {"ghcr.io": "other"}, "auths": {site.host: {}, "ghcr.io": coded("me:gh")}}
    said = (
        {"credHelpers": {site.host: "mine"}, "credsStore": "other"} if by == "credHelpers" else {"credsStore": "mine"}
    )
    assert digest_of(site, place.logins(**{**other, **said})) == digest
    assert place.asked() == [f"get {site.host}"]


@pytest.mark.parametrize("by", ["a helper", "the file"])
def test_an_identity_token_is_exchanged_for_a_token_of_the_image(site, place, by):
    site.private, site.identity, site.tokens = "me:s3cret", "a-long-lived-one", True
    digest = site.push("team/swap", "cuda", "first")
    place.keeps("mine", "<token>", "a-long-lived-one")
    in_the_file = {site.host: {**coded("00000000:"), "identitytoken": "a-long-lived-one"}}
    logins = place.logins(credsStore="mine") if by == "a helper" else place.logins(auths=in_the_file)
    assert digest_of(site, logins) == digest
    assert [method for method, _ in site.heard] == ["HEAD", "POST", "HEAD", "HEAD"]
    assert site.scopes == ["repository:team/swap:pull"] and "a-long-lived-one" not in repr(logins.of(image(site)))


def test_an_identity_token_that_is_not_taken_is_a_login_that_is_not_enough(site, place):
    site.private, site.identity, site.tokens = "me:s3cret", "renewed", True
    logins = place.logins(auths={site.host: {"identitytoken": "expired"}})
    with pytest.raises(Denied, match=r"the login of \S*config.json is not enough") as found:
        digest_of(site, logins)
    assert "expired" not in str(found.value)
    site.tokens = False
    with pytest.raises(Denied, match="wants Basic credentials"):
        digest_of(site, logins)


def test_an_identity_token_is_not_handed_on_by_a_redirect(site, place):
    other = LoopbackRegistry()
    try:
        site.private, site.identity, site.tokens = "me:s3cret", "a-long-lived-one", True

        def elsewhere(handler):
            if not handler.path.startswith("/token"):
                return False
            handler.answer(307, b"", {"Location": f"http://{other.host}{handler.path}"})
            return True

        site.faults = [elsewhere]
        with pytest.raises(NotARegistry, match="answered 307"):
            digest_of(site, place.logins(auths={site.host: {"identitytoken": "a-long-lived-one"}}))
        assert other.heard == []
    finally:
        other.close()


def test_a_token_server_that_knows_no_identity_tokens_is_said_to_give_none(site, place):
    site.tokens, site.faults = True, [always(404, path="/token")]
    with pytest.raises(NotARegistry, match="gives no token"):
        digest_of(site, place.logins(auths={site.host: {"identitytoken": "x"}}))


def test_where_a_helper_keeps_none_the_file_goes_on_and_the_refusal_names_the_helper(site, place):
    site.private = "me:s3cret"
    digest = site.push("team/swap", "cuda", "first")
    place.helper("mine", NONE_KEPT)
    config = {"credHelpers": {site.host: "mine"}, "credsStore": "never-asked"}
    assert digest_of(site, place.logins(**config, auths={site.host: coded("me:s3cret")})) == digest
    with pytest.raises(
        Denied, match=r"docker-credential-mine \(named in \S*config.json\) has no login for it: `docker"
    ):
        digest_of(site, place.logins(**config))
    place.keeps("mine", "me", "wrong")
    with pytest.raises(Denied, match=r"the login of docker-credential-mine \(named in \S*\) is not enough") as found:
        digest_of(site, place.logins(**config))
    assert "wrong" not in str(found.value)


FAILING = {
    "not there": (None, "is not on PATH"),
    "not to be started": ("", "cannot be started"),
    "locked": ("echo 'the keychain is locked' >&2; exit 2", r"failed \(the keychain is locked\)"),
    "speechless": ("exit 3", r"failed \(status 3\)"),
    "talking": ("echo s3cret", "answered no JSON with Username and Secret"),
    "waiting for a person": ("exec sleep 60", "gave no answer in 0.1 s"),
}


@pytest.mark.parametrize("failing", FAILING)
def test_a_helper_that_fails_is_named_with_registry_and_way_out_where_a_login_is_needed_and_only_there(
    site, place, failing
):
    does, says = FAILING[failing]
    if does is not None:
        place.helper("mine", does)
    if does == "":
        (place.folder / "docker-credential-mine").chmod(0o644)
    logins = place.logins(
        LoginLimits(helper_s=0.1) if "sleep" in str(does) else LIMITS_OF_LOGINS, credHelpers={site.host: "mine"}
    )
    site.tokens = True
    digest = site.push("team/swap", "cuda", "first")
    assert digest_of(site, logins) == digest, "a public image is anybody's"
    site.private = "me:s3cret"
    with pytest.raises(HelperFailed, match=says) as found:
        digest_of(site, logins)
    told = str(found.value)
    assert all(part in told for part in ("docker-credential-mine", site.host, "LLAMA_ASSETS_REGISTRY_CONFIG"))
    assert "s3cret" not in told and not found.value.transient


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"credHelpers": ["mine"]}, "its `credHelpers` cannot be read"),
        ({"credHelpers": {"ghcr.io": "../mine"}}, "its `credHelpers` cannot be read"),
        ({"credsStore": 7}, "its `credsStore` cannot be read"),
        ({"auths": ["ghcr.io"]}, "its `auths` cannot be read"),
    ],
)
def test_a_config_that_names_helpers_as_no_docker_does_is_said_to_be_none(place, config, says):
    with pytest.raises(BadLogins, match=says):
        place.logins(**config).of(Reference.parse("ghcr.io/a/b"))


def test_docker_hubs_login_is_kept_by_its_old_address_and_written_logins_are_others(place):
    place.keeps("mine", "me", "hub")
    logins = place.logins(credsStore="mine", auths={"ghcr.io": coded("me:gh")}, credHelpers={"docker.io": "mine"})
    assert logins.of(Reference.parse("alpine")).basic == f"Basic {coded('me:hub')['auth']}"
    assert logins.of(Reference.parse("ghcr.io/a/b")).basic == f"Basic {coded('me:gh')['auth']}"
    assert place.asked() == ["get https://index.docker.io/v1/"], "what is written is not asked for"
