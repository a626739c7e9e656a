"""Published sets: a model with its projector, verified, under the fingerprint of what is in them.

Here: the header check and `models/<id>/<fingerprint>/`. Not here: writing blobs (`blobs`), which set is current
(`promote`), what a fingerprint is made of (`hub`; here it is a name).

The order of writes in the whole store, each durable before the next (STEPS names them). A process killed after any
of them leaves a store in which everything that has a name is right, and the next run goes on from there:

 1. `blobs/<sha256>.part` grows under the blob's lock; it is a beginning of the blob and nothing relies on it
 2. blob verified       the part's sha256 is the name it will get
 3. blob named          renamed: a file named `blobs/<sha256>` is whole and right
 4. headers checked     nothing written; a set that cannot be served gets no folder
 5. set built           `models/<id>/.<fingerprint>.tmp/` with its links and `published.json`; nobody looks there
 6. set named           renamed: a folder named by a fingerprint is whole, every link in it leads to a named blob
 7. promotion noted     `promotions.json` says "B after A" while `current` is A; it means nothing until B is current
 8. promoted            `current` -> B, in one rename: a reader of `current` sees A or B, and both are whole

Invariants: `current` is absent or names a whole set; previous(current) is what the newest note about it says, so
between 7 and 8 it is still A's own; steps 4 to 8 happen under the store's lock, as gc does, and a download holds its
blobs' locks from 1 to 6, so gc takes nothing away in between.

`published.json` beside the links keeps sizes, sha256s and what the headers say: `current()` is asked by every
rendering and every check, and reading three headers each time is 20 MB and a third of a second, more on cold disks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from llama_assets.store import header
from llama_assets.store.blobs import Blobs, Part, StoreLimits
from llama_assets.store.errors import BadHeader, BadSet, Damaged, NotPublished, StoreError, Unusable
from llama_assets.store.folders import make_folder, sync_folder
from llama_assets.store.header import Fit, Header
from llama_assets.store.locks import Locks

STEPS = (
    "blob verified",
    "blob named",
    "headers checked",
    "set built",
    "set named",
    "promotion noted",
    "promoted",
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")  # of a model or a fingerprint: one folder, never a hidden one
_MANIFEST = "published.json"


@dataclass(frozen=True)
class Facts:
    """What the headers of a set say; None where they do not."""

    architecture: str | None
    context_length: int | None
    block_count: int | None
    file_type: str | None
    projector: str | None
    mmproj_file_type: str | None
    fit: Fit


@dataclass(frozen=True)
class Published:
    """One verified set of files of one model. `bytes` counts each blob once; `source` says where it first came from."""

    model: str
    fingerprint: str
    folder: Path
    model_file: Path
    mmproj_file: Path
    bytes: int
    parts: tuple[Part, ...]
    facts: Facts
    source: str
    published_at: float


class Sets:
    """`<root>/models/*/<fingerprint>`."""

    def __init__(self, root: Path, blobs: Blobs, locks: Locks, limits: StoreLimits, at: Callable[[str], None]) -> None:
        self.folder, self._blobs, self._locks, self._limits, self._at = root / "models", blobs, locks, limits, at

    def publish(
        self, model: str, fingerprint: str, parts: Sequence[Part], context: int | None, source: str
    ) -> Published:
        """Steps 4 to 6. The caller holds the blobs until this returns.

        A set that is published and whole is returned as it is; one that was damaged from outside is built again.
        `context` is how many tokens the model will be asked to hold.

        Raises:
            BadSet, BadHeader, Damaged (a blob is missing), Busy, Unusable
        """
        parts, folder = _ordered(model, parts), self.path(model, fingerprint)
        with self.locked():
            for part in parts:
                if not self._blobs.has(part.sha256, part.size):
                    raise Damaged(self._blobs.path(part.sha256), "is not here whole", f"materialize gguf/{model} again")
            if not self._is_whole(model, fingerprint, parts):
                facts = self.read_headers(parts, context)
                _check_fit(facts.fit)
                self._at("headers checked")
                with writing(folder):
                    self._build(folder, fingerprint, parts, facts, source)
                self._at("set named")
            published = self.load(model, fingerprint)
            _check_context(parts[0], published.facts, context)
        return published

    def load(self, model: str, fingerprint: str) -> Published:
        """A published set, from its manifest.

        Raises:
            NotPublished, Damaged
        """
        folder = self.path(model, fingerprint)
        manifest = folder / _MANIFEST
        try:
            said = json.loads(manifest.read_text(encoding="utf-8"))
            parts = tuple(Part(**part) for part in said["parts"])
            facts = Facts(**{**said["facts"], "fit": Fit(**said["facts"]["fit"])})
            source, published_at = str(said["source"]), float(said["published_at"])
            first = {part.role: folder / file_name(part) for part in reversed(parts)}
            files = first["model"], first["mmproj"]
        except FileNotFoundError:
            raise NotPublished(model, fingerprint, self.names(model)) from None
        except (ValueError, KeyError, TypeError) as error:
            way_out = f"materialize gguf/{model} again: no file is fetched for it"
            raise Damaged(manifest, f"cannot be read ({error!r})", way_out) from error
        size = sum({part.sha256: part.size for part in parts}.values())
        return Published(model, fingerprint, folder, *files, size, parts, facts, source, published_at)

    def read_headers(self, parts: Sequence[Part], context: int | None = None) -> Facts:
        """What the blobs' headers say now. A projector that does not fit is a fact here, `publish` refuses it.

        Raises:
            BadHeader: a file is not what its part says, or holds less than `context` tokens. Damaged: one is gone.
        """
        headers = {}
        for part in parts:
            path = self._blobs.path(part.sha256)
            try:
                headers[part] = header.check(path, file_name(part))
            except OSError as error:
                raise Damaged(path, f"cannot be read ({error.strerror})", "materialize its model again") from error
            _check_role(part, headers[part])
        first = {part.role: read for part, read in reversed(headers.items())}
        model, mmproj = first["model"], first["mmproj"]
        facts = Facts(
            architecture=model.architecture,
            context_length=model.context_length,
            block_count=model.number("{arch}.block_count"),
            file_type=model.file_type,
            projector=mmproj.projector,
            mmproj_file_type=mmproj.file_type,
            fit=header.projector_fits(model, mmproj),
        )
        _check_context(parts[0], facts, context)
        return facts

    def models(self) -> list[str]:
        """Every model that has a folder here."""
        return _folders(self.folder)

    def names(self, model: str) -> list[str]:
        """Every published fingerprint of a model."""
        return _folders(self.folder / model)

    def path(self, model: str, fingerprint: str) -> Path:
        """Where the set is, or will be. Raises StoreError for names that cannot be folders."""
        for name in (model, fingerprint):
            if not _NAME.fullmatch(name):
                raise StoreError(f"{name!r} cannot name a folder of the store: small letters, digits, dots and dashes")
        return self.folder / model / fingerprint

    def locked(self) -> AbstractContextManager[None]:
        """The store's lock: publishing, promoting, refusing and gc are short and take turns.

        Raises (on entering):
            Busy, Unusable
        """
        return self._locks.held("store", "the store", self._limits.store_wait_s, lambda _: None)

    def _is_whole(self, model: str, fingerprint: str, parts: Sequence[Part]) -> bool:
        try:
            published = self.load(model, fingerprint)
        except (NotPublished, Damaged):
            return False
        links = (published.folder / file_name(part) for part in parts)
        leads = all(
            link.resolve() == self._blobs.path(part.sha256).resolve() for link, part in zip(links, parts, strict=True)
        )
        return leads and published.parts == tuple(parts)

    def _build(self, folder: Path, fingerprint: str, parts: Sequence[Part], facts: Facts, source: str) -> None:
        aside = folder.with_name(f".{fingerprint}.tmp")
        make_folder(folder.parent)
        shutil.rmtree(aside, ignore_errors=True)  # ours by the store's lock: a dead process left it
        aside.mkdir()
        for part in parts:
            to = os.path.relpath(self._blobs.path(part.sha256), folder)  # the volume may be mounted elsewhere
            (aside / file_name(part)).symlink_to(to)
        manifest: dict[str, object] = {"parts": [asdict(part) for part in parts], "facts": asdict(facts)}
        manifest |= {"source": source, "published_at": time.time()}
        replace_text(aside / _MANIFEST, json.dumps(manifest, indent=1))
        self._at("set built")
        shutil.rmtree(folder, ignore_errors=True)  # only if it was damaged from outside; it held links, no bytes
        aside.rename(folder)
        sync_folder(folder.parent)


def file_name(part: Part) -> str:
    """What the file is called in its set. A split file keeps llama.cpp's naming, which finds the parts by it."""
    return f"{part.role}.gguf" if part.parts == 1 else f"{part.role}-{part.part:05d}-of-{part.parts:05d}.gguf"


def replace_text(path: Path, text: str) -> None:
    """Write a small file whole and durably, or not at all."""
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The system's errors while writing below `path`, as ours. Raises Unusable."""
    try:
        yield
    except OSError as error:
        raise Unusable(path, error.strerror or str(error)) from error


def _ordered(model: str, parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts, model first, as one whole set. Raises BadSet."""
    for role in ("model", "mmproj"):
        numbers = sorted((part.part, part.parts) for part in parts if part.role == role)
        if not numbers:
            raise BadSet(model, f"no {role} file among the parts")
        if numbers != [(number + 1, len(numbers)) for number in range(len(numbers))]:
            have = ", ".join(f"{part} of {of}" for part, of in numbers)
            raise BadSet(model, f"the {role} file has the parts {have}")
    return tuple(sorted(parts, key=lambda part: (part.role != "model", part.part)))


def _check_role(part: Part, read: Header) -> None:
    name = file_name(part)
    if part.role == "mmproj" and part.part == 1 and read.architecture != "clip":
        raise BadHeader(name, f"is no projector: its architecture is {read.architecture or 'not named'}, not clip")
    if part.role == "model" and read.architecture == "clip":
        raise BadHeader(name, "is a projector (architecture clip), not a model")
    if part.role == "model" and part.part == 1 and read.architecture is None:
        raise BadHeader(name, "names no architecture")
    count, number = read.number("split.count"), read.number("split.no")
    if part.parts > 1 and (count, number) not in ((part.parts, part.part - 1), (None, None)):
        raise BadHeader(name, f"says of itself that it is part {(number or 0) + 1} of {count}")
    if part.parts == 1 and (count or 1) > 1:
        raise BadHeader(name, f"is one of {count} parts, and the others are not named")


def _check_context(part: Part, facts: Facts, asked: int | None) -> None:
    if facts.context_length is not None and asked is not None and asked > facts.context_length:
        way_out = f"set `context` in the catalog to {facts.context_length} or less"
        raise BadHeader(
            file_name(part), f"holds {facts.context_length} tokens of context, the catalog asks for {asked}", way_out
        )


def _check_fit(fit: Fit) -> None:
    if fit.fits is False:
        raise BadHeader("mmproj.gguf", f"is another model's: {fit.why}", "name the right projector in the catalog")


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name) and _is_own_folder(entry))


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
