"""What a container registry says about an image: which digest a tag has now, whether a digest is still there.

Comes in: a reference as `docker pull` takes it. Goes out: a digest (`sha256:...`), yes or no, or a child of
`registry_answers.RegistryError`.

Only manifests are asked for, by HEAD, which Docker Hub does not count as a pull. First as anybody; a login is used
where a registry asks for one. Not here: where logins are kept (`registry_login.py`), what follows from an answer
(`automation/engine_image.py`). Source: OCI Distribution Specification 1.1; for tokens the CNCF distribution project's
"Token Authentication Specification", and for identity tokens its "Oauth2 Token Authentication".
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.request import parse_http_list, parse_keqv_list

import httpx

from llama_assets.patience import patiently
from llama_assets.registry_answers import (
    Answer,
    Denied,
    NotAReference,
    NotARegistry,
    NotThere,
    RateLimited,
    RegistryError,
    ServerError,
    Unreachable,
)

__all__ = [
    "Denied",
    "Keeper",
    "Login",
    "NotAReference",
    "NotARegistry",
    "NotThere",
    "RateLimited",
    "Reference",
    "Registry",
    "RegistryError",
    "RegistryLimits",
    "ServerError",
    "Unreachable",
    "is_docker_hub",
]

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",  # the list first: else a registry names one machine's image of it
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
NAME = re.compile(rf"{PART}(?:/{PART})*")
HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d+)?")
CLIENT = "llama-assets"  # OAuth2 wants a name of whoever asks; nobody has to know it
DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class RegistryLimits:
    """The room's numbers. `attempts` counts tries of one request in all."""

    timeout_s: float = 10.0
    attempts: int = 3
    first_wait_s: float = 1.0  # doubles with each attempt where the registry does not say how long
    longest_wait_s: float = 10.0  # a longer Retry-After is not waited for but told
    manifest_bytes: int = 4 << 20  # what a registry must accept (OCI Distribution, "pushing manifests")


@dataclass(frozen=True)
class Reference:
    """An image's name in full. `tag` and `digest` as written; neither means the tag `latest`."""

    registry: str
    name: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `[registry/]name[:tag][@sha256:...]`, by Docker's rules for what is left out.

        Raises:
            NotAReference: it is none.
        """
        before, at, digest = text.partition("@")
        head, slash, rest = before.partition("/")
        named = bool(slash) and ("." in head or ":" in head or head == "localhost")
        registry, path = (head, rest) if named else ("docker.io", before)
        name, colon, tag = path.partition(":")
        if is_docker_hub(registry):
            registry, name = "docker.io", name if "/" in name else f"library/{name}"
        whole = HOST.fullmatch(registry) and NAME.fullmatch(name)
        good = whole and (not colon or TAG.fullmatch(tag)) and (not at or DIGEST.fullmatch(digest))
        if not good:
            raise NotAReference(text)
        return cls(registry, name, tag or None if colon else None if at else "latest", digest or None)

    @property
    def repository(self) -> str:
        """Where all tags and digests of this name are."""
        return f"{self.registry}/{self.name}"

    @property
    def by_tag(self) -> Reference:
        """The same without the digest."""
        return Reference(self.registry, self.name, self.tag)

    def pinned(self, digest: str) -> Reference:
        """The same at this digest."""
        return Reference(self.registry, self.name, self.tag, digest)

    def __str__(self) -> str:
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


@dataclass(frozen=True)
class Login:
    """Who we are at a registry: `basic`, the value of an `Authorization`, or an `identity` token, which only gives
    tokens. `source` says where it was found.
    """  # fmt: skip

    source: str
    basic: str | None = field(default=None, repr=False)
    identity: str | None = field(default=None, repr=False)


class Keeper(Protocol):
    """Whoever keeps logins."""

    def of(self, image: Reference) -> Login | None:
        """The login for this image. Raises RegistryError where one is kept that cannot be had."""

    def where(self, image: Reference) -> str:
        """Where one is looked for; empty where nowhere is."""


class Registry:
    """Asks registries. Keeps connections and tokens until it is closed.

    `plain_http` is a `host[:port]` to be asked without TLS; one on this machine always is. `logins` are used where a
    registry asks for one, and sent to nobody without TLS but to such a registry.
    """

    def __init__(
        self, limits: RegistryLimits | None = None, plain_http: str | None = None, logins: Keeper | None = None
    ) -> None:
        self._limits = limits or RegistryLimits()
        self._plain_http = plain_http
        self._logins = logins
        self._known: dict[str, Login | RegistryError | None] = {}  # by repository: a helper takes its time
        self._allowed: dict[str, str] = {}  # `Authorization` by repository: a token is for one only
        self._http = httpx.Client(timeout=self._limits.timeout_s, follow_redirects=True)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def digest_of(self, reference: Reference) -> str:
        """The digest that the tag has now: of the list where the image is one for several machines.

        Raises:
            NotThere: no such tag.
            RegistryError: any other child.
        """
        image = reference.by_tag
        told: str = self._manifest("HEAD", image, image.tag or "latest").headers.get("Docker-Content-Digest", "")
        if DIGEST.fullmatch(told):
            return told
        # The header is a SHOULD. Its value is the hash of the manifest's bytes.
        body = self._manifest("GET", image, image.tag or "latest").body
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def exists(self, reference: Reference) -> bool:
        """Whether the digest can still be pulled.

        Raises:
            RegistryError: any child but NotThere.
        """
        assert reference.digest
        try:
            self._manifest("HEAD", reference, reference.digest)
        except NotThere:
            return False
        return True

    def _manifest(self, method: str, image: Reference, which: str) -> Answer:
        address = f"{self._address(image.registry)}/v2/{image.name}/manifests/{which}"
        answer = self._asked(method, address, image, self._headers(image))
        if answer.status == 401:  # the first 401 says where tokens are given
            self._allowed[image.repository] = self._authorization(image, answer)
            answer = self._asked(method, address, image, self._headers(image))
        return self._judged(image, image.registry, answer)

    def _headers(self, image: Reference) -> dict[str, str]:
        allowed = self._allowed.get(image.repository)
        return {"Accept": ACCEPT, **({"Authorization": allowed} if allowed else {})}

    def _address(self, registry: str) -> str:
        if is_docker_hub(registry):
            return "https://registry-1.docker.io"
        return f"{'http' if self._is_plain(registry) else 'https'}://{registry}"

    def _is_plain(self, registry: str) -> bool:
        return registry == self._plain_http or _on_this_machine(registry)

    def _login(self, image: Reference) -> Login | None:
        """None also where it cannot be had: it is asked for of whoever wants a token, and most give one to anybody."""
        if self._logins is not None and image.repository not in self._known:
            try:
                self._known[image.repository] = self._logins.of(image)
            except RegistryError as error:
                self._known[image.repository] = error
        found = self._known.get(image.repository)
        return found if isinstance(found, Login) else None

    def _denied(self, image: Reference, host: str, said: str) -> RegistryError:
        login, known = self._login(image), self._known.get(image.repository)
        if isinstance(known, RegistryError):
            return known
        looked_for = self._logins.where(image) if self._logins else ""
        return Denied(str(image), host, said, login.source if login else looked_for, login is not None)

    def _judged(self, image: Reference, host: str, answer: Answer) -> Answer:
        if answer.status in (401, 403):
            raise self._denied(image, host, answer.said)
        if answer.status == 404 and not answer.is_a_page:
            raise NotThere(str(image), host, answer.said)
        if answer.status != 200 or answer.is_a_page:
            raise NotARegistry(str(image), host, f"{answer.said}{', a web page' if answer.is_a_page else ''}")
        return answer

    def _asked(
        self,
        method: str,
        address: str,
        image: Reference,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, tried again while there is hope."""
        limits, host = self._limits, _host(address)

        def once() -> Answer:
            try:
                answer = self._read(method, address, headers, form)
            except (httpx.TransportError, httpx.TooManyRedirects, httpx.DecodingError) as error:
                said = f"does not answer: {str(error) or type(error).__name__}"
                raise Unreachable(str(image), host, said) from error
            if answer.status in (408, 429) or answer.status >= 500:
                kind = RateLimited if answer.status == 429 else ServerError
                raise kind(str(image), host, answer.said, answer.retry_after_s)
            return answer

        return patiently(once, limits, RegistryError)

    def _read(
        self, method: str, address: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Answer:
        redirects = form is None  # a form holds a secret, which a redirect would hand on
        with self._http.stream(method, address, headers=headers, data=form, follow_redirects=redirects) as answer:
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > self._limits.manifest_bytes:
                    raise httpx.DecodingError("it sends more than a manifest may have")
            return Answer(answer.status_code, answer.headers, bytes(body))

    def _authorization(self, image: Reference, refusal: Answer) -> str:
        """What a registry that refused is to be asked with: a token of anybody's or of the login's, or the login."""
        scheme, _, rest = refusal.headers.get("WWW-Authenticate", "").partition(" ")
        asked = parse_keqv_list([part for part in parse_http_list(rest) if "=" in part])
        realm = asked.get("realm")
        login = self._login(image)
        if scheme.lower() == "basic" and login and login.basic:
            return login.basic
        if scheme.lower() != "bearer" or not realm:
            raise self._denied(image, image.registry, f"wants {scheme} credentials" if scheme else refusal.said)
        query = {"service": asked.get("service", ""), "scope": asked.get("scope", f"repository:{image.name}:pull")}
        try:
            return f"Bearer {self._token(image, realm, {name: value for name, value in query.items() if value}, login)}"
        except (NotThere, httpx.InvalidURL, ValueError, KeyError, AttributeError):  # the image was not asked for yet
            raise NotARegistry(str(image), image.registry, f"names {realm}, which gives no token") from None

    def _token(self, image: Reference, realm: str, query: Mapping[str, str], login: Login | None) -> str:
        """Anybody's or the login's. An identity token is given for it as OAuth2's refresh token, in a form."""
        if login and not (httpx.URL(realm).scheme == "https" or self._is_plain(image.registry)):
            login = None
        if login and login.identity:
            grant = {"grant_type": "refresh_token", "refresh_token": login.identity, "client_id": CLIENT}
            answer = self._asked("POST", realm, image, {}, {**query, **grant})
            if answer.status == 400:  # it has expired or was taken back (RFC 6749, 5.2)
                raise self._denied(image, _host(realm), answer.said)
        else:
            address = str(httpx.URL(realm).copy_merge_params(query))
            headers = {"Authorization": login.basic} if login and login.basic else {}
            answer = self._asked("GET", address, image, headers)
        given = json.loads(self._judged(image, _host(realm), answer).body)
        return str(given.get("token") or given["access_token"])


def is_docker_hub(registry: str) -> bool:
    """By any of its names."""
    return registry in DOCKER_HUB


def _on_this_machine(registry: str) -> bool:
    host = registry.rpartition(":")[0] if re.search(r":\d+$", registry) else registry
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host(address: str) -> str:
    return httpx.URL(address).netloc.decode()
