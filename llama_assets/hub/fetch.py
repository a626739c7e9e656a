"""The bytes of one pinned file: a fresh signed address, then blocks, by plain HTTP with Range.

The address is asked of the Hub by the library; the body is read from the CDN by urllib3, because httpx2 spends 4.5 s
of processor time on 2 GiB where urllib3 spends 0.5 s. One call is one attempt: who writes the bytes knows how many have
arrived and asks again from there. Xet is not used. Here: bytes and their errors. Not here: files, digests, retries.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llama_assets.hub.answers import Asked, HubLimits, api_errors, host_of, library, of_cdn_failure, of_cdn_status
from llama_assets.hub.errors import Cut, FileChanged, HubError, NotAHub, WrongAnswer
from llama_assets.hub.selection import RemoteFile

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

SHA256 = re.compile(r'(?:W/)?"([0-9a-f]{64})"')


@dataclass(frozen=True)
class Source:
    """Where files of a repo at one commit are read from, and as whom."""

    endpoint: str
    token: str | None
    repo: str
    commit: str


class Body:
    """Blocks of a file from `start` to `end` (bytes). `start` is 0 if the server ignored the wish for a later one."""

    def __init__(
        self, start: int, end: int, what: str, host: str, limits: HubLimits, response: BaseHTTPResponse
    ) -> None:
        self.start, self.end = start, end
        self._what, self._host, self._limits, self._response = what, host, limits, response

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of at most `limits.block_bytes`, as they arrive: after a cut, all that came has been handed out.

        Raises:
            Cut: the body ended early, was reset, or brought no byte for `limits.stall_s`.
            WrongAnswer: it is longer than the file.
        """
        at, block_bytes, read = self.start, self._limits.block_bytes, self._response.read1
        while at < self.end:
            try:
                block = read(min(block_bytes, self.end - at), decode_content=False)
            except Exception as error:  # only the read is inside, so nothing of the caller's is taken for ours
                raise self._error(error) from error
            if not block:
                raise Cut(self._what, self._host, f"ended its answer at byte {at} of {self.end}")
            at += len(block)
            yield block

    def until(self, end: float | None) -> Iterator[bytes]:
        """The same blocks, no longer than to a time.monotonic(): one that trickles is no better than one that stalls.

        Raises:
            Cut: also when the time has come and bytes are missing.
        """
        at = self.start
        for block in self:
            at += len(block)
            yield block
            if end is not None and at < self.end and time.monotonic() >= end:
                raise Cut(self._what, self._host, f"had sent {at} of {self.end} bytes when the time was up")

    def _error(self, error: Exception) -> HubError:
        return of_cdn_failure(error, self._what, self._host, self._limits.stall_s)


@contextmanager
def stream(source: Source, file: RemoteFile, start: int, limits: HubLimits, end: int | None = None) -> Iterator[Body]:
    """The file's bytes from `start` on (to `end`, if given); closing before the end hangs up.

    Asks the Hub for a new signed address (one HEAD), compares what it says with the pinned sha256 and size, and opens
    the address (one GET). The token goes to the Hub and to nobody else.

    Raises:
        HubError: see `errors.py`; the transient ones may be tried again from the byte that has arrived.
    """
    import urllib3

    last = file.size if end is None else min(end, file.size)
    if not 0 <= start < last:
        raise ValueError(f"start={start}: {file.path} has bytes 0 to {last - 1}")
    found = address(source, file, limits)
    what, host = f"{file.path} of {source.repo}", host_of(found)
    headers = {"Accept-Encoding": "identity", "User-Agent": "llama-assets"}
    if start or end is not None:
        headers["Range"] = f"bytes={start}-" + ("" if end is None else str(last - 1))
    if source.token is not None and host == host_of(source.endpoint):  # a mirror that serves files itself
        headers["Authorization"] = f"Bearer {source.token}"
    pool = _pool(found, limits)
    try:
        try:
            response = pool.request("GET", found, headers=headers, preload_content=False, decode_content=False)
        except urllib3.exceptions.MaxRetryError as error:  # its text holds the signed address, its reason does not
            reason = error.reason or urllib3.exceptions.HTTPError("no reason given")
            raise of_cdn_failure(reason, what, host, limits.stall_s) from reason
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise of_cdn_failure(error, what, host, limits.stall_s) from error
        with response:
            first = _first_byte(response, file, start, last, what, host)
            yield Body(first, last, what, host, limits, response)
    finally:
        pool.clear()


def address(source: Source, file: RemoteFile, limits: HubLimits) -> str:
    """A fresh address of the file's bytes. Raises FileChanged if the Hub means other bytes than were pinned."""
    hub = library()
    asked = Asked(source.endpoint, source.repo, source.commit, file.path, source.token is not None)
    with api_errors(asked):
        url = hub.hf_hub_url(source.repo, file.path, revision=source.commit, endpoint=source.endpoint)
        found = hub.get_hf_file_metadata(
            url, token=source.token or False, timeout=limits.api_timeout_s, endpoint=source.endpoint
        )
    if found.commit_hash is None or found.etag is None or found.size is None:
        raise NotAHub(source.endpoint, f"no X-Repo-Commit, ETag or size for {asked.what}")
    if (found.etag, found.size) != (file.sha256, file.size):
        pinned, now = f"{file.size} bytes, sha256 {file.sha256}", f"{found.size} bytes, sha256 {found.etag}"
        raise FileChanged(source.repo, source.commit, file.path, pinned, now)
    return str(found.location)


def _first_byte(response: BaseHTTPResponse, file: RemoteFile, start: int, last: int, what: str, host: str) -> int:
    """Where in the file the answer begins, after checking that it is an answer for this file."""
    headers = {key.lower(): value for key, value in response.headers.items()}
    if response.status not in (200, 206):
        raise of_cdn_status(response.status, headers, what, host)
    first, span = (start, f"bytes {start}-{last - 1}/{file.size}") if response.status == 206 else (0, None)
    if span is not None and headers.get("content-range") != span:
        raise WrongAnswer(what, host, f"range {headers.get('content-range')} where {span} was asked for")
    expected = last - first if span is not None else file.size
    length = headers.get("content-length")
    if length is not None and length != str(expected):
        raise WrongAnswer(what, host, f"{length} bytes where {expected} were expected")
    tag = SHA256.fullmatch(headers.get("etag", ""))  # object stores have other tags; only a sha256 can be compared
    if tag and tag[1] != file.sha256:
        raise WrongAnswer(what, host, f"a file of sha256 {tag[1]} where {file.sha256} was asked for")
    return first


def _pool(address: str, limits: HubLimits) -> PoolManager:
    """A connection with our patience, the library's certificates, and the proxy that the library would take."""
    import urllib.request

    import httpx2
    import urllib3

    parts = urlsplit(address)
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=limits.api_timeout_s, read=limits.stall_s),
        "retries": urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0),
        "ssl_context": httpx2.create_ssl_context() if parts.scheme == "https" else None,
    }
    proxy = None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
