"""What can go wrong between us and the Hub. Nothing but these leaves the room.

    HubError
    |- Refused             who asks is not enough
    |  |- Unauthorized     401, the token is wrong
    |  |- Gated            401 or 403, the repo's owner decides who may read
    |  `- Forbidden        403, anything else (a disabled repo, a token without the right)
    |- NotFound            there is no such thing
    |  |- RepoNotFound
    |  |- RevisionNotFound
    |  `- FileNotFound     also: renamed, or no file of this quantization; lists candidates
    |- Ambiguous           several files fit; lists them
    |- SplitIncomplete     parts of a split file are missing
    |- FileChanged         the Hub now gives other bytes for a pinned file
    |- NotAHub             something answers there, but not as the Hub does
    `- Trouble             may be over in a moment (transient)
       |- HubDown          no answer: refused, unknown host, time-out
       |- NotAsked         not even asked: others had used up the time, or were told to wait
       |- RateLimited      429; retry_after_s if the Hub says so
       |- ServerError      5xx
       |- LinkExpired      403 of the CDN: ask for a new address
       |- WrongAnswer      another size or range than asked for: a proxy in between
       `- Cut              a body that ended early, was reset, or stalled

Each names the thing, the value and the way out. Here: classes and sentences. Not here: which answer of the Hub is which
error (`answers.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HubError(Exception):
    """The root. `transient`: the same request may succeed later; `retry_after_s`: how much later, if the Hub said."""

    exit_status = 1
    transient = False
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A file that could be meant. `quant` is None where the name ends in no quantization; `size` is bytes."""

    path: str
    quant: str | None
    size: int

    def __str__(self) -> str:
        return f"{self.path}  quant {self.quant or 'not in the name'}  {self.size / 1e9:.2f} GB"


def listed(candidates: Sequence[Candidate]) -> str:
    """Candidates one a line, each indented."""
    return "".join(f"\n  {candidate}" for candidate in candidates) or "\n  (none)"


class Refused(HubError):
    """The Hub knows what is meant and does not give it to this token."""

    def __init__(self, repo: str, endpoint: str, said: str, with_token: bool) -> None:
        super().__init__(repo, endpoint, said, with_token)
        self.repo, self.endpoint, self.said, self.with_token = repo, endpoint, said, with_token


class Unauthorized(Refused):
    """401: the token is not one the Hub knows."""

    def __str__(self) -> str:
        if not self.with_token:
            return f"{self.endpoint} wants a token for {self.repo} (401): set HF_TOKEN to one from its /settings/tokens"
        return (
            f"{self.endpoint} does not accept the token in HF_TOKEN (401, asked for {self.repo}): "
            f"make a new one at {self.endpoint}/settings/tokens, or unset HF_TOKEN for public repos"
        )


class Gated(Refused):
    """The repo is public to look at, its files are for those whom its owner lets in."""

    def __str__(self) -> str:
        page = f"{self.endpoint}/{self.repo}"
        if not self.with_token:
            return f"{self.repo} is gated and no token was sent: ask for access at {page}, then set HF_TOKEN"
        return f"{self.repo} is gated and the account of HF_TOKEN has no access yet: ask for it at {page}"


class Forbidden(Refused):
    """403 for another reason than a gate."""

    def __str__(self) -> str:
        return (
            f"{self.endpoint} refuses {self.repo} (403: {self.said}): see {self.endpoint}/{self.repo}; "
            "a fine-grained HF_TOKEN needs the right to read it"
        )


class NotFound(HubError):
    """There is no such repo, revision or file."""


class RepoNotFound(NotFound):
    """No repo of that name, or a private one that this token may not see (the Hub does not say which)."""

    def __init__(self, repo: str, endpoint: str, with_token: bool) -> None:
        super().__init__(repo, endpoint, with_token)
        self.repo, self.endpoint, self.with_token = repo, endpoint, with_token

    def __str__(self) -> str:
        way = "the account of HF_TOKEN must see it" if self.with_token else "set HF_TOKEN"
        return f"no repo {self.repo} at {self.endpoint}: check `repo` in the catalog; if it is private, {way}"


class RevisionNotFound(NotFound):
    """No branch, tag or commit of that name."""

    def __init__(self, repo: str, revision: str, endpoint: str) -> None:
        super().__init__(repo, revision, endpoint)
        self.repo, self.revision, self.endpoint = repo, revision, endpoint

    def __str__(self) -> str:
        if len(self.revision) == 40:
            way = "its history was rewritten: materialize the model again, or follow a branch in the catalog"
        else:
            way = f"check `revision` in the catalog against {self.endpoint}/{self.repo}/tree/main"
        return f"no revision {self.revision} in {self.repo}: {way}"


class FileNotFound(NotFound):
    """No file in the repo fits what the catalog names; it may have been renamed."""

    def __init__(
        self, repo: str, commit: str, wanted: str, candidates: Sequence[Candidate] = (), way: str = ""
    ) -> None:
        super().__init__(repo, commit, wanted, tuple(candidates), way)
        self.repo, self.commit, self.wanted, self.candidates = repo, commit, wanted, tuple(candidates)
        self.way = way or "name one of them in the catalog"

    def __str__(self) -> str:
        return f"no {self.wanted} in {self.repo} at {self.commit[:7]}; {self.way}:{listed(self.candidates)}"


class Ambiguous(HubError):
    """Several files fit; none is chosen by its place in a list."""

    def __init__(self, repo: str, commit: str, wanted: str, candidates: Sequence[Candidate], key: str) -> None:
        super().__init__(repo, commit, wanted, tuple(candidates), key)
        self.repo, self.commit, self.wanted, self.candidates, self.key = repo, commit, wanted, tuple(candidates), key

    def __str__(self) -> str:
        return (
            f"more than one {self.wanted} in {self.repo} at {self.commit[:7]}; "
            f"name one by `{self.key}` in the catalog:{listed(self.candidates)}"
        )


class SplitIncomplete(HubError):
    """A split file of which parts are missing: an upload that is still running, or one that was given up."""

    def __init__(self, repo: str, commit: str, stem: str, parts: int, missing: Sequence[int]) -> None:
        super().__init__(repo, commit, stem, parts, tuple(missing))
        self.repo, self.commit, self.stem, self.parts, self.missing = repo, commit, stem, parts, tuple(missing)

    def __str__(self) -> str:
        numbers = ", ".join(map(str, self.missing))
        return (
            f"{self.stem} in {self.repo} at {self.commit[:7]} is split in {self.parts} and part {numbers} is missing: "
            "wait until its upload is done, or name another file in the catalog"
        )


class FileChanged(HubError):
    """A pinned commit gives another file than it listed."""

    def __init__(self, repo: str, commit: str, path: str, listed_as: str, found: str) -> None:
        super().__init__(repo, commit, path, listed_as, found)
        self.repo, self.commit, self.path, self.listed_as, self.found = repo, commit, path, listed_as, found

    def __str__(self) -> str:
        return (
            f"{self.path} of {self.repo} at {self.commit[:7]} was listed as {self.listed_as} and is now {self.found}: "
            "materialize the model again to see what the repo holds; a mirror in HF_ENDPOINT may be stale"
        )


class NotAHub(HubError):
    """Something answers at the address, and not as the Hub does."""

    def __init__(self, endpoint: str, said: str) -> None:
        super().__init__(endpoint, said)
        self.endpoint, self.said = endpoint, said

    def __str__(self) -> str:
        return (
            f"{self.endpoint} does not answer as a Hugging Face hub ({self.said}): check HF_ENDPOINT, "
            "and whether a proxy or a log-in page answers instead"
        )


class Trouble(HubError):
    """May be over in a moment."""

    transient = True

    def __init__(self, what: str, at: str, said: str, retry_after_s: float | None = None) -> None:
        super().__init__(what, at, said, retry_after_s)
        self.what, self.at, self.said, self.retry_after_s = what, at, said, retry_after_s

    @property
    def when(self) -> str:
        """When to try again, as part of a sentence."""
        return "later" if self.retry_after_s is None else f"in {self.retry_after_s:.0f} s"


class HubDown(Trouble):
    """No answer at all. `transient` is False where waiting does not help (offline mode)."""

    def __init__(self, what: str, at: str, said: str, transient: bool = True) -> None:
        super().__init__(what, at, said)
        self.transient = transient

    def __str__(self) -> str:
        if not self.transient:
            return f"{self.what}: {self.at} was not asked, because HF_HUB_OFFLINE is set: unset it"
        return f"{self.what}: {self.at} does not answer ({self.said}): check the network and HF_ENDPOINT, or try later"


class NotAsked(Trouble):
    """One of many that were to be looked at, and was not. `said` is why."""

    def __str__(self) -> str:
        return f"{self.what}: {self.at} was not asked, {self.said}: it is asked first the next time"


class RateLimited(Trouble):
    """429. A token has a higher limit than an address."""

    def __str__(self) -> str:
        return f"{self.what}: {self.at} limits requests (429): try again {self.when}; with HF_TOKEN the limit is higher"


class ServerError(Trouble):
    """5xx."""

    def __str__(self) -> str:
        return f"{self.what}: {self.at} failed ({self.said}): try again {self.when}"


class LinkExpired(Trouble):
    """403 of the CDN: the signed address is not good any more."""

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.at} says that the signed address has expired (403): try again, a new one is asked for"
        )


class WrongAnswer(Trouble):
    """An answer of another size or range than asked for."""

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.at} answered with {self.said}: try again; if it stays, a proxy in between is at fault"
        )


class Cut(Trouble):
    """The body ended before its file did."""

    def __str__(self) -> str:
        return f"{self.what}: {self.at} {self.said}: what has arrived is kept, try again"
