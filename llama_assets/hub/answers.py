"""What the Hub's answers mean: every lower error becomes a HubError.

Here: the mapping for huggingface_hub's API calls and for the CDN, Retry-After. Not here: the
sentences (`errors.py`), what is asked (`revisions.py`, `fetch.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llama_assets.hub.errors import (
    Cut,
    FileNotFound,
    Forbidden,
    Gated,
    HubDown,
    HubError,
    LinkExpired,
    NotAHub,
    RateLimited,
    RepoNotFound,
    RevisionNotFound,
    ServerError,
    Unauthorized,
    WrongAnswer,
)
from llama_assets.patience import told_wait_s

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


@dataclass(frozen=True)
class HubLimits:
    """The room's numbers. `attempts` counts tries of an API call in all; bodies are tried again by who writes them."""

    api_timeout_s: float = 15.0
    stall_s: float = 30.0  # a body that brings no byte for this long is cut
    block_bytes: int = 1 << 20
    attempts: int = 4
    first_wait_s: float = 1.0  # doubles with each attempt where the Hub does not say how long
    longest_wait_s: float = 60.0  # a longer Retry-After is not waited for but told
    at_once: int = 8  # API calls in flight while many repos are watched


@dataclass(frozen=True)
class Asked:
    """What a call was about, for its error."""

    endpoint: str
    repo: str
    revision: str
    file: str | None
    with_token: bool

    @property
    def what(self) -> str:
        """The thing, at the head of a sentence."""
        return f"{self.file} of {self.repo}" if self.file else self.repo


def library() -> Any:
    """huggingface_hub with its telemetry off: with it, the first call of a day also asks for /api/agent-harnesses."""
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


@contextmanager
def api_errors(asked: Asked) -> Iterator[None]:
    """Run one API call; whatever the library or the network raises leaves as a HubError."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise HubDown(asked.what, asked.endpoint, "HF_HUB_OFFLINE", transient=False) from error
    except errors.HfHubHTTPError as error:
        raise _of_status(error, asked) from error
    except errors.HFValidationError as error:
        raise RepoNotFound(asked.repo, asked.endpoint, asked.with_token) from error
    except httpx2.TimeoutException as error:
        raise HubDown(asked.what, asked.endpoint, f"no answer in time, {type(error).__name__}") from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects, httpx2.DecodingError) as error:
        raise NotAHub(asked.endpoint, _first_line(error)) from error
    except (httpx2.HTTPError, OSError) as error:
        raise HubDown(asked.what, asked.endpoint, _first_line(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # What the library raises for a page that is no JSON, or JSON that is no model.
        raise NotAHub(
            asked.endpoint, f"what it said about {asked.what} cannot be read: {_first_line(error)}"
        ) from error


def _of_status(error: HfHubHTTPError, asked: Asked) -> HubError:
    """The error for an HTTP status, told apart by the library's classes first: they read X-Error-Code."""
    from huggingface_hub import errors

    who = (asked.repo, asked.endpoint)
    status, headers = error.response.status_code, error.response.headers
    said = headers.get("x-error-message") or f"{status} {error.response.reason_phrase}"
    if isinstance(error, errors.GatedRepoError):  # it is a RepositoryNotFoundError too, so it comes first
        return Gated(*who, said, asked.with_token)
    if isinstance(error, errors.RepositoryNotFoundError):
        return RepoNotFound(*who, asked.with_token)
    if isinstance(error, errors.RevisionNotFoundError):
        return RevisionNotFound(asked.repo, asked.revision, asked.endpoint)
    if isinstance(error, errors.RemoteEntryNotFoundError):
        way = "the repo was changed since it was looked at: materialize the model again"
        return FileNotFound(asked.repo, asked.revision, f"file {asked.file}", (), way)
    if status == 401:
        return Unauthorized(*who, said, asked.with_token)
    if status == 403:
        return Forbidden(*who, said, asked.with_token)
    if status == 429:
        return RateLimited(asked.what, asked.endpoint, said, retry_after_s(headers))
    if status == 408 or status >= 500:
        return ServerError(asked.what, asked.endpoint, said, retry_after_s(headers))
    return NotAHub(asked.endpoint, f"{status} for {asked.what}")


def of_cdn_status(status: int, headers: Mapping[str, str], what: str, host: str) -> HubError:
    """The error for a status of the CDN other than 200 and 206."""
    if status in (401, 403, 410):
        return LinkExpired(what, host, str(status))
    if status == 429:
        return RateLimited(what, host, "429", retry_after_s(headers))
    if status == 408 or status >= 500:
        return ServerError(what, host, f"status {status}", retry_after_s(headers))
    return WrongAnswer(what, host, f"status {status}")


def of_cdn_failure(error: Exception, what: str, host: str, stall_s: float) -> HubError:
    """The error for what urllib3 or a socket raised before or in a body (not a MaxRetryError: hand in its reason)."""
    import urllib3.exceptions as lower

    if isinstance(error, lower.ReadTimeoutError):
        return Cut(what, host, f"sent no byte for {stall_s:g} s")
    if isinstance(error, lower.NewConnectionError | lower.ConnectTimeoutError | lower.SSLError | lower.ProxyError):
        return HubDown(what, host, _first_line(error))
    if isinstance(error, lower.ProtocolError | OSError):
        return Cut(what, host, f"broke off ({_first_line(error)})")
    return WrongAnswer(what, host, f"something that is not HTTP ({_first_line(error)})")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until the server wants to be asked again, None if it does not say.

    The Hub says it in Retry-After, and in `RateLimit: "api";r=0;t=42` as well (draft-ietf-httpapi-ratelimit-headers),
    which counts only when nothing remains.
    """
    if value := headers.get("retry-after", "").strip():
        return told_wait_s(value)
    limit = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    return float(limit[1]) if limit else None


def host_of(address: str) -> str:
    """Scheme, name and port of an address: a signed address is never shown, whoever has it can read the file."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
