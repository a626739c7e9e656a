"""The Hub: which commit a model follows, which files it means there, and their bytes.

In come catalog models; out go revisions (to the download task, the revision sensor and doctor) and blocks of bytes (to
who writes them). Every error is a HubError that says what to do. Not here: digests, files on disk, retries of bodies.
"""

from llama_assets.hub.answers import HubLimits
from llama_assets.hub.errors import (
    Ambiguous,
    Candidate,
    Cut,
    FileChanged,
    FileNotFound,
    Forbidden,
    Gated,
    HubDown,
    HubError,
    LinkExpired,
    NotAHub,
    NotAsked,
    NotFound,
    RateLimited,
    Refused,
    RepoNotFound,
    RevisionNotFound,
    ServerError,
    SplitIncomplete,
    Trouble,
    Unauthorized,
    WrongAnswer,
)
from llama_assets.hub.fetch import Body
from llama_assets.hub.revisions import Change, Hub, Revision, Watched, changes, watch, watch_all
from llama_assets.hub.selection import RemoteFile

__all__ = [
    "Ambiguous",
    "Body",
    "Candidate",
    "Change",
    "Cut",
    "FileChanged",
    "FileNotFound",
    "Forbidden",
    "Gated",
    "Hub",
    "HubDown",
    "HubError",
    "HubLimits",
    "LinkExpired",
    "NotAHub",
    "NotAsked",
    "NotFound",
    "RateLimited",
    "Refused",
    "RemoteFile",
    "RepoNotFound",
    "Revision",
    "RevisionNotFound",
    "ServerError",
    "SplitIncomplete",
    "Trouble",
    "Unauthorized",
    "Watched",
    "WrongAnswer",
    "changes",
    "watch",
    "watch_all",
]
