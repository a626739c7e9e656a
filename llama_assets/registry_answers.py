"""What asking a container registry can come to: an answer, read whole, or one of these errors.

    RegistryError
    |- NotAReference   no image can be named so
    |- NotThere        404: no such tag, or no such image
    |- Denied          401 or 403: private, or not there (registries do not tell which), or a login that is not enough
    |- NotARegistry    something answers there, but not as a registry does
    `- Trouble         the same question may be answered later (transient)
       |- Unreachable  no answer: refused, unknown host, time-out
       |- RateLimited  429; retry_after_s if the registry said so
       `- ServerError  5xx

Each error names image, registry and way out. Not here: asking (`registry.py`). Source: OCI Distribution Specification
1.1 for the words in a refusal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_assets.patience import told_wait_s

if TYPE_CHECKING:
    import httpx


class RegistryError(Exception):
    """The root. `transient`: may be answered later; `retry_after_s`: how much later, if the registry said."""

    exit_status = 1
    transient = False
    retry_after_s: float | None = None


class NotAReference(RegistryError):
    """The text names no image."""

    exit_status = 2

    def __str__(self) -> str:
        return f"{self.args[0]!r} names no image; write [registry/]name[:tag][@sha256:...], the name in lower case"


class Answered(RegistryError):
    """What `registry` `said` when it was asked for `image`."""

    way_out = ""

    def __init__(self, image: str, registry: str, said: str, retry_after_s: float | None = None) -> None:
        super().__init__(image, registry, said, retry_after_s)
        self.image, self.registry, self.said, self.retry_after_s = image, registry, said, retry_after_s

    def __str__(self) -> str:
        return f"{self.image}: {self.registry} {self.said}; {self.way_out}"


class NotThere(Answered):
    """No such image, or no such tag or digest of it."""

    way_out = "correct engine.image of the catalog, or LLAMA_ASSETS_ENGINE_IMAGE"


class Denied(Answered):
    """Anybody's token is not enough, nor the login's, if there was one. `logins` is where it was looked for."""

    def __init__(self, image: str, registry: str, said: str, logins: str = "", logged_in: bool = False) -> None:
        super().__init__(image, registry, said)
        self.logins, self.logged_in = logins, logged_in

    @property
    def way_out(self) -> str:  # type: ignore[override]
        """Whose login was tried, or where one belongs."""
        if self.logged_in:
            return f"the login of {self.logins} is not enough: is it still good, and may it pull?"
        none = f"{self.logins} has no login" if self.logins else "there is no login"
        return (
            f"it is private or not there, and {none} for it: "
            "`docker login`, or name the Docker config file that has one in LLAMA_ASSETS_REGISTRY_CONFIG"
        )


class NotARegistry(Answered):
    """An answer that no registry gives."""

    way_out = "is the host right? A registry that speaks plain HTTP is named in LLAMA_ASSETS_PLAIN_HTTP_REGISTRY"


class Trouble(Answered):
    """No answer of use; may be over in a moment."""

    transient = True

    @property
    def way_out(self) -> str:  # type: ignore[override]
        """When to ask again."""
        return "ask again later" if self.retry_after_s is None else f"ask again in {self.retry_after_s:.0f} s"


class Unreachable(Trouble):
    """No answer: refused, unknown host, cut, timed out, or it does not end."""


class RateLimited(Trouble):
    """429: too many questions from this address."""


class ServerError(Trouble):
    """5xx, or 408."""


@dataclass(frozen=True)
class Answer:
    """What came back, read whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def said(self) -> str:
        """The status, and the registry's own words where the body has them (HEAD has none)."""
        try:
            errors = json.loads(self.body)["errors"]
            words = "; ".join(str(error.get("message") or error["code"]) for error in errors)
        except (ValueError, KeyError, TypeError, AttributeError):
            words = ""
        return f"answered {self.status}{f' ({words[:200]})' if words else ''}"

    @property
    def is_a_page(self) -> bool:
        """For a browser: what a proxy or a web server in the registry's place sends."""
        return "text/html" in self.headers.get("Content-Type", "")

    @property
    def retry_after_s(self) -> float | None:
        """As long as it wants to be left alone."""
        return told_wait_s(self.headers.get("Retry-After", ""))
