"""A hub on loopback that behaves like huggingface.co, and misbehaves when told to.

It speaks real HTTP to the real huggingface_hub (model_info, tree, refs, commits, paths-info, /resolve, signed
addresses on a CDN with its own port) and to `hf download`. Use it like this:

    with LoopbackHub() as hub:                                   # Hub(endpoint=hub.url)
        first = hub.push("org/m-GGUF", {"m-Q4_K_M.gguf": Path("m.gguf"), "mmproj-F16.gguf": b"GGUF..."})
        hub.push("org/big-GGUF", {"big-Q8_0.gguf": Zeros(2 << 30)})      # costs no memory, no disk
        hub.push("org/m-GGUF", {"README.md": "new"}, remove=("m-Q4_K_M.gguf",))     # another commit on main

        hub.cut_after(4_000_000, by="reset")                     # the next download breaks there, once
        hub.cut_after(0, of="mmproj", times=3)                   # a file by a part of its name, three times
        hub.stall_after(1_000_000, seconds=60)                   # bytes stop, the connection stays
        hub.flip_byte(17)                                        # right length, wrong bytes
        hub.expire_links(); hub.links_work(times=1); hub.links_last(seconds=5)   # 403 from the CDN
        hub.fail(503, on="cdn"); hub.fail(429, retry_after_s=7); hub.fail(200, body=b"<html>")
        hub.ignore_range(); hub.answer_size(1234)                # a proxy in the way
        hub.slow_down(bytes_per_s=2e6); hub.answer_late(0.05)    # from now on
        hub.when_sent(1_000_000, lambda: hub.push(...))          # somebody pushes half way
        hub.heal()                                               # nothing goes wrong any more

        hub.gate("org/m-GGUF", allowed=["hf_friend"]); hub.hide(...); hub.disable(...); hub.open(...)
        hub.rename(old, new)
        hub.stop(); hub.start()                                  # down, and back on the same ports
        hub.count("cdn"); hub.requests("resolve", of="Q4_K_M")   # what was asked

Offsets count bytes of the file. Faults with a number of times play in the order they were asked for, one a request;
those that hold "from now on" (times=None) hold beside them. `of` is any part of repo or file name.

    python -m llama_assets.demo.hub --dir D --port P             # serves D/<owner>/<name>/** until it is stopped

Not here: routes and headers (`hub_http.py`), history and who may read (`hub_repos.py`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

from llama_assets.demo.hub_http import (
    CdnHandler,
    Fault,
    Handler,
    HubHandler,
    Link,
    Refusal,
    Request,
    Server,
    Side,
    new_key,
)
from llama_assets.demo.hub_repos import Content, Repo, Zeros, content

__all__ = ["Fault", "LoopbackHub", "Request", "Zeros"]

Site = Literal["hub", "cdn"]
SETTLED_S = 0.2  # a client may have its last byte before that byte is counted
SITES: dict[Site, type[Handler]] = {"hub": HubHandler, "cdn": CdnHandler}


class LoopbackHub:
    """The hub: push, break, ask what was requested. `port` and `cdn_port` 0 are any free port."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, cdn_port: int = 0, page_rows: int = 1000) -> None:
        self.page_rows = page_rows
        self._host = host
        self._ports: dict[Site, int] = {"hub": port, "cdn": cdn_port}
        self._repos: dict[str, Repo] = {}
        self._renamed: dict[str, str] = {}
        self._tokens: set[str] = set()
        self._faults: list[Fault] = []
        self._log: list[Request] = []
        self._links: dict[str, Link] = {}
        self._link_lasts_s = 3600.0
        self._link_uses: int | None = None
        self._guard = threading.RLock()
        self._servers: dict[Site, Server] = {}

    # -- up and down

    def start(self) -> LoopbackHub:
        """Listen on both ports. After `stop` they are the same ports as before."""
        for site, handler in SITES.items():
            if site not in self._servers:
                server = Server((self._host, self._ports[site]), self, handler)
                self._ports[site] = server.server_address[1]
                self._servers[site] = server
                threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self, *sites: Site) -> None:
        """Go down, both sites or those named: open connections end, new ones are refused. What was pushed stays."""
        for site in sites or tuple(SITES):
            if server := self._servers.pop(site, None):
                server.shutdown()
                server.server_close()
                server.hang_up()

    def __enter__(self) -> LoopbackHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://{self._host}:{self._ports['hub']}"

    def cdn_url(self, host: str) -> str:
        """Address of the CDN: the name by which the client reached the hub, with the CDN's port."""
        return f"http://{host.rsplit(':', 1)[0]}:{self._ports['cdn']}"

    # -- what is on it

    def push(
        self,
        repo: str,
        files: Mapping[str, bytes | str | os.PathLike[str] | Content] | None = None,
        *,
        remove: Iterable[str] = (),
        title: str = "Upload",
        branch: str = "main",
        tag: str | None = None,
    ) -> str:
        """Commit on top of a branch (the repo is made if there is none); returns the commit's sha.

        A path stays on disk and must not change while its commit is read. KeyError: a removed path is not there.
        """
        contents = {path: content(source) for path, source in (files or {}).items()}
        with self._guard:
            here = self._repos.setdefault(repo, Repo(repo))
            commit = here.add(contents, tuple(remove), title, branch)
            if tag is not None:
                here.tags[tag] = commit.sha
            return commit.sha

    def push_folder(self, repo: str, folder: Path) -> str:
        """Make main what the folder holds, in one commit if that is a change; returns the commit's sha."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): content(path) for path in paths}
        last = self._repos[repo].find("main") if repo in self._repos else None
        before = {path: file.content.sha256 for path, file in last.files.items()} if last else {}
        if last and before == {path: file.sha256 for path, file in files.items()}:
            return last.sha
        return self.push(repo, files, remove=before.keys() - files.keys())

    def know(self, *tokens: str) -> None:
        """Make these tokens valid. A request with any other token is answered 401."""
        self._tokens |= set(tokens)

    def gate(self, repo: str, allowed: Iterable[str] = ()) -> None:
        """Files only for tokens in `allowed`; what the repo holds stays public."""
        self._close(repo, "gated", allowed)

    def hide(self, repo: str, allowed: Iterable[str] = ()) -> None:
        """Make a repo private: for everybody else it does not exist."""
        self._close(repo, "private", allowed)

    def disable(self, repo: str) -> None:
        """Close a repo for everybody, as the Hub's staff does."""
        self._close(repo, "disabled", ())

    def rename(self, old: str, new: str) -> None:
        """Move a repo; the old name redirects, as on the Hub."""
        with self._guard:
            moved = self._repos.pop(old)
            moved.name = new
            self._repos[new] = moved
            self._renamed[old] = new

    def delete(self, repo: str) -> None:
        """Remove a repo and its history."""
        with self._guard:
            del self._repos[repo]

    def forget_history(self, repo: str) -> None:
        """Keep only the branches' last commits, as super-squash does: older shas are answered 404."""
        with self._guard:
            here = self._repos[repo]
            here.commits = {sha: here.commits[sha] for sha in here.branches.values()}

    def open(self, repo: str) -> None:
        """Take back what `gate`, `hide` and `disable` did."""
        with self._guard:
            found = self._repos[repo]
            found.gated = found.private = found.disabled = False

    def _close(self, repo: str, how: Literal["gated", "private", "disabled"], allowed: Iterable[str]) -> None:
        with self._guard:
            setattr(self._repos[repo], how, True)
            self._repos[repo].allowed = set(allowed)
            self.know(*allowed)

    # -- what goes wrong

    def play(self, fault: Fault) -> Fault:
        """Add a fault; its `played` counts how often it was. The sentences below are the usual ones."""
        with self._guard:
            self._faults.append(fault)
        return fault

    def fail(
        self,
        status: int,
        *,
        on: Side = "api",
        of: str = "",
        times: int | None = 1,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Fault:
        """Answer with this status and body instead."""
        extra = dict(headers or {}) | ({} if retry_after_s is None else {"Retry-After": str(retry_after_s)})
        return self.play(Fault(on, of, times, status=status, headers=extra, body=body))

    def cut_after(
        self, offset: int, *, by: Literal["fin", "reset"] = "fin", of: str = "", times: int | None = 1
    ) -> Fault:
        """End the connection before the byte at `offset` of the file: politely (FIN) or by a TCP reset."""
        return self.play(Fault("cdn", of, times, cut_at=offset, cut_by=by))

    def stall_after(self, offset: int, *, seconds: float, of: str = "", times: int | None = 1) -> Fault:
        """Send nothing for a while before the byte at `offset`. A client that hangs up ends the wait."""
        return self.play(Fault("cdn", of, times, stall_at=offset, stall_s=seconds))

    def flip_byte(self, offset: int, *, of: str = "", times: int | None = 1) -> Fault:
        """Right length, wrong bytes: the byte at `offset` arrives inverted."""
        return self.play(Fault("cdn", of, times, flip_at=offset))

    def ignore_range(self, *, of: str = "", times: int | None = 1) -> Fault:
        """Answer 200 with the whole file to a request for its rest."""
        return self.play(Fault("cdn", of, times, ignore_range=True))

    def answer_size(self, size: int, *, of: str = "", times: int | None = 1) -> Fault:
        """Answer 200 with a body of this many bytes that has nothing to do with the file."""
        return self.play(Fault("cdn", of, times, size=size))

    def slow_down(self, bytes_per_s: float, *, of: str = "", times: int | None = None) -> Fault:
        """Send bodies no faster than this."""
        return self.play(Fault("cdn", of, times, bytes_per_s=bytes_per_s))

    def answer_late(self, seconds: float, *, on: Side = "api", of: str = "", times: int | None = None) -> Fault:
        """Wait before each answer."""
        return self.play(Fault(on, of, times, delay_s=seconds))

    def when_asked(self, call: Callable[[], object], *, on: Side = "api", of: str = "", times: int | None = 1) -> Fault:
        """Call back before the answer is made."""
        return self.play(Fault(on, of, times, before=call))

    def when_sent(self, offset: int, call: Callable[[], object], *, of: str = "", times: int | None = 1) -> Fault:
        """Call back when a body has reached this offset of its file."""
        return self.play(Fault("cdn", of, times, call_at=offset, call=call))

    def heal(self) -> None:
        """End every fault; addresses last an hour again."""
        with self._guard:
            self._faults.clear()
            self._link_lasts_s, self._link_uses = 3600.0, None

    def expire_links(self) -> None:
        """Every address handed out so far is answered 403; new ones are good."""
        with self._guard:
            self._links.clear()

    def links_last(self, seconds: float) -> None:
        """Addresses handed out from now on are good for this long; 0 is never."""
        self._link_lasts_s = seconds

    def links_work(self, times: int | None) -> None:
        """Addresses handed out from now on may be used this often, None is any number."""
        self._link_uses = times

    # -- what was asked

    def requests(self, side: Side | None = None, method: str | None = None, of: str = "") -> list[Request]:
        """What was asked so far, in order: of one side, by one method, with `of` in the path or query."""
        with self._guard:
            log = list(self._log)
        patience = time.monotonic() + SETTLED_S
        for request in log:
            request.over.wait(max(0.0, patience - time.monotonic()))
        return [
            request
            for request in log
            if side in (None, request.side)
            and method in (None, request.method)
            and of in f"{request.path} {request.query}"
        ]

    def count(self, side: Side | None = None, method: str | None = None, of: str = "") -> int:
        """How many requests there were; takes what `requests` takes."""
        return len(self.requests(side, method, of))

    def counts(self) -> dict[str, int]:
        """How many requests each side had, e.g. {"api": 1, "resolve": 2, "cdn": 2}."""
        return dict(Counter(request.side for request in self.requests()))

    def forget_requests(self) -> None:
        """Begin to count anew."""
        with self._guard:
            self._log.clear()

    # -- what the handlers ask (hub_http.Sites)

    def log(self, request: Request) -> None:
        """Remember a request."""
        with self._guard:
            self._log.append(request)

    def faults_for(self, side: Side, name: str) -> list[Fault]:
        """The faults that last, and the oldest of the others, that fit this request."""
        with self._guard:
            fitting = [f for f in self._faults if f.on == side and f.of in name and f.times != 0]
            lasting = [fault for fault in fitting if fault.times is None]
            passing = [fault for fault in fitting if fault.times is not None][:1]
            for fault in passing:
                fault.times = (fault.times or 0) - 1
            for fault in lasting + passing:
                fault.played += 1
            return passing + lasting

    def repo(self, name: str, token: str | None, files: bool) -> Repo:
        """A repo as this token may see it; the refusals are worded and coded as the Hub's are."""
        if token is not None and token not in self._tokens:
            raise Refusal(401, None, "Invalid credentials in Authorization header")
        repo = self._repos.get(name)
        if repo is None or (repo.private and token not in repo.allowed):
            if token is None:
                raise Refusal(401, "RepoNotFound", "Invalid username or password.")
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if repo.disabled:
            raise Refusal(403, None, "Access to this resource is disabled.")
        if files and repo.gated and token not in repo.allowed:
            told = f"Access to model {name} is restricted"
            if token is None:
                raise Refusal(401, "GatedRepo", f"{told}. You must be authenticated to access it. Please log in.")
            raise Refusal(
                403, "GatedRepo", f"{told} and you are not in the authorized list. Visit its page to ask for access."
            )
        return repo

    def new_name(self, name: str) -> str | None:
        """Where a renamed repo is now."""
        return self._renamed.get(name)

    def sign(self, path: str, what: Content) -> str:
        """The key of a new signed address."""
        key = new_key()
        with self._guard:
            self._links[key] = Link(path, what, time.monotonic() + self._link_lasts_s, self._link_uses)
        return key

    def link(self, key: str) -> Link | None:
        """The signed address with this key if it is still good; counts a use."""
        with self._guard:
            link = self._links.get(key)
            if link is None or time.monotonic() >= link.expires or link.uses == 0:
                return None
            if link.uses is not None:
                link.uses -= 1
            return link


def main(arguments: list[str] | None = None) -> None:
    """Serve a folder until SIGTERM or Ctrl-C; SIGHUP commits what has changed in it."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m llama_assets.demo.hub", description="A hub that serves a folder.")
    parser.add_argument("--dir", type=Path, required=True, help="holds <owner>/<name>/ with each repo's files")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="port of the hub (default %(default)s)")
    parser.add_argument("--cdn-port", type=int, default=0, help="port of the CDN (default: any)")
    asked = parser.parse_args(arguments)
    if not asked.dir.is_dir():
        parser.error(f"--dir {asked.dir}: no such folder")
    hub = LoopbackHub(asked.host, asked.port, asked.cdn_port)
    changed, ended = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: changed.set())

    def end(*_: object) -> None:
        ended.set()
        changed.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with hub:
        changed.set()
        while changed.wait() and not ended.is_set():
            changed.clear()
            for folder in sorted(path for path in asked.dir.glob("*/*") if path.is_dir()):
                name = folder.relative_to(asked.dir).as_posix()
                print(name, hub.push_folder(name, folder), flush=True)
            print(f"HF_ENDPOINT={hub.url}", flush=True)


if __name__ == "__main__":
    main()
