"""Logins of a Docker config file: written in it, or kept by a program of the machine's that it names.

Comes in: an image. Goes out: the login that `docker pull` would use for it, if there is one; and nothing but these two
of `registry.RegistryError`:

    BadLogins      the file is there, and is no Docker config
    HelperFailed   the credential helper that the file names is not there, or does not do what one does

Not here: what a login is used for (`registry.py`). Sources: Docker's reference of `docker login` ("Credential stores",
"Credential helpers") for the keys of `config.json`, which Kubernetes' pull secrets hold, too; the README of
github.com/docker/docker-credential-helpers ("Development") for what is said to a helper and by it.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_assets.registry import Login, Reference, RegistryError, is_docker_hub

HUB_ADDRESS = "https://index.docker.io/v1/"  # by which Docker Hub's login is kept, since there was one registry
IDENTITY = "<token>"  # a helper's user name where the secret is an identity token
NONE_KEPT = "credentials not found in native keychain"  # how a helper says so: on stdout, and exit status 1
HELPER = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class LoginLimits:
    """The room's numbers. A helper may ask a person to unlock something, who may be asleep."""

    helper_s: float = 10.0


class BadLogins(RegistryError):
    """The file with logins cannot be read, or is none."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return (
            f"{self.path} is no Docker config file ({self.why}); correct it, or name another one in "
            "LLAMA_ASSETS_REGISTRY_CONFIG"
        )


class HelperFailed(RegistryError):
    """`program` gave no login for `registry`, and did not say either that it has none."""

    def __init__(self, program: str, registry: str, path: Path, why: str) -> None:
        super().__init__(program, registry, path, why)
        self.program, self.registry, self.path, self.why = program, registry, path, why

    def __str__(self) -> str:
        return (
            f"{self.program}, which {self.path} names for the login at {self.registry}, {self.why}; see that "
            f"`echo {self.registry} | {self.program} get` works, or name a Docker config file that holds the login "
            "itself in LLAMA_ASSETS_REGISTRY_CONFIG"
        )


@dataclass(frozen=True)
class Logins:
    """The logins of a Docker config file, read when one is asked for; `path` None or not there: nobody's."""

    path: Path | None = None
    limits: LoginLimits = LoginLimits()

    def of(self, image: Reference) -> Login | None:
        """The login for this image: from the helper of its registry (`credHelpers`), else as written in the file, else
        from the helper of all other registries (`credsStore`).

        In the file a name with a path (as Kubernetes allows) goes before one without, the longest first.

        Raises:
            BadLogins: the file is there, and is no such file.
            HelperFailed: its helper is not there, or fails.
        """
        config = self._config()
        helper = config.helper_of(image)
        if helper and (kept := self._kept(helper, image)):
            return kept
        if (written := _written(config.auths, image, str(self.path))) or helper or not config.store:
            return written
        return self._kept(config.store, image)

    def where(self, image: Reference) -> str:
        """Where a login for this image is looked for; empty where nowhere is. Raises BadLogins."""
        config = self._config()
        helper = config.helper_of(image) or config.store
        return self._source(helper) if helper else str(self.path or "")

    def _source(self, helper: str) -> str:
        return f"docker-credential-{helper} (named in {self.path})"

    def _config(self) -> _Config:
        try:
            text = self.path.read_text("utf-8") if self.path else "{}"
        except FileNotFoundError:
            return _Config()
        except OSError as error:
            assert self.path
            raise BadLogins(self.path, error.strerror or str(error)) from None
        assert self.path or text == "{}"
        part = "it"
        try:
            told = dict(json.loads(text))
            part = "its `auths`"
            auths = {str(name): dict(entry) for name, entry in dict(told.get("auths") or {}).items()}
            part = "its `credHelpers`"
            helpers = {str(name): _helper(helper) for name, helper in dict(told.get("credHelpers") or {}).items()}
            part = "its `credsStore`"
            return _Config(auths, helpers, _helper(told["credsStore"]) if told.get("credsStore") else None)
        except (ValueError, TypeError, AttributeError):
            assert self.path
            raise BadLogins(self.path, f"{part} cannot be read") from None

    def _kept(self, helper: str, image: Reference) -> Login | None:
        """What `docker-credential-<helper> get` says, asked on stdin by the registry's name."""
        assert self.path
        program = f"docker-credential-{helper}"
        server = HUB_ADDRESS if is_docker_hub(image.registry) else image.registry
        try:
            done = subprocess.run(
                [program, "get"],
                input=server,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self.limits.helper_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HelperFailed(program, server, self.path, f"gave no answer in {self.limits.helper_s:g} s") from None
        except OSError as error:
            why = "is not on PATH" if isinstance(error, FileNotFoundError) else f"cannot be started ({error.strerror})"
            raise HelperFailed(program, server, self.path, why) from None
        if done.returncode:
            said = next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")
            if said == NONE_KEPT:
                return None
            raise HelperFailed(program, server, self.path, f"failed ({said[:200] or f'status {done.returncode}'})")
        try:
            told = json.loads(done.stdout)
            user, secret = str(told["Username"]), str(told["Secret"])
        except (ValueError, TypeError, KeyError):  # nothing of it is quoted: it may be the secret
            raise HelperFailed(program, server, self.path, "answered no JSON with Username and Secret") from None
        source = self._source(helper)
        return Login(source, identity=secret) if user == IDENTITY else Login(source, basic=_basic(user, secret))


@dataclass(frozen=True)
class _Config:
    """What of the file is ours: its entries, helpers of registries, and the helper of all others."""

    auths: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None

    def helper_of(self, image: Reference) -> str | None:
        """The helper that is named for the image's own registry."""
        return next((helper for name, helper in self.helpers.items() if _place(name)[0] == image.registry), None)


def _helper(name: Any) -> str:
    if not isinstance(name, str) or not HELPER.fullmatch(name):
        raise ValueError(name)
    return name


def _place(name: str) -> tuple[str, str]:
    """Registry and path of an entry's name: an address in old files, and Docker Hub has many names."""
    host, _, path = re.sub("^https?://", "", name).rstrip("/").partition("/")
    return "docker.io" if is_docker_hub(host) else host, "" if path in ("v1", "v2") else path


def _written(auths: Mapping[str, Mapping[str, Any]], image: Reference, source: str) -> Login | None:
    found: dict[str, Login] = {}
    for name, entry in auths.items():
        host, path = _place(name)
        ours = host == image.registry and f"{image.name}/".startswith(f"{path}/" if path else "")
        if ours and (login := _login(entry, source)):
            found[path] = login
    return found[max(found, key=len)] if found else None


def _login(entry: Mapping[str, Any], source: str) -> Login | None:
    if entry.get("identitytoken"):  # beside it `auth` holds a name without a password
        return Login(source, identity=str(entry["identitytoken"]))
    if entry.get("auth"):
        return Login(source, basic=f"Basic {entry['auth']}")
    if entry.get("username") and entry.get("password"):
        return Login(source, basic=_basic(str(entry["username"]), str(entry["password"])))
    return None


def _basic(user: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"
