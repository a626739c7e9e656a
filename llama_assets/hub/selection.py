"""Which files of a repo a catalog model means: pure rules over names, nothing decided by sort order.

An exact file name wins. Otherwise the quantization must be the whole last token of the name, in any case: Q4_K_M is
neither UD-Q4_K_M nor Q4_K_S, F16 is not BF16. A name with `mmproj` is a projector; imatrix, draft and multi-token files
are neither. Parts of a split file belong together. None or several that fit is an error that lists candidates.
Here: names to files. Not here: asking the Hub (`revisions.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from llama_assets.catalog import Model
from llama_assets.hub.errors import Ambiguous, Candidate, FileNotFound, SplitIncomplete

Role = Literal["model", "mmproj"]

# The last token of a stem that is a quantization. A maker's prefix belongs to it: UD- is unsloth's dynamic mix, i1-
# mradermacher's imatrix one; they are other bytes than the plain quantization of the same name.
QUANT = re.compile(
    r"(?:^|[-._])((?:UD-|i1-)?(?:I?Q\d|TQ\d|MXFP\d|NVFP\d|B?F(?:16|32)|FP(?:16|32|8))\w*)$", re.IGNORECASE
)
SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
# Files beside the model that are not it; llama.cpp passes over the same ones (common/download.cpp).
SIDE = re.compile(r"(?:^|[-._])(imatrix|mtp|eagle3|dflash|dspark)(?:[-._]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repo at one commit. `part` counts from 1; a file that is not split is part 1 of 1."""

    path: str
    size: int
    sha256: str
    role: Role
    part: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Listed:
    """A GGUF file as a repo lists it. `size` is bytes."""

    path: str
    size: int
    sha256: str

    @property
    def stem(self) -> str:
        """The path without `.gguf` and without the number of a part."""
        whole = self.path[: -len(".gguf")]
        split = SPLIT.fullmatch(whole)
        return split[1] if split else whole

    @property
    def split(self) -> tuple[int, int]:
        """(part, parts), (1, 1) if the file is not split."""
        found = SPLIT.fullmatch(self.path[: -len(".gguf")])
        return (int(found[2]), int(found[3])) if found else (1, 1)

    @property
    def quant(self) -> str | None:
        """The quantization that the name ends in, upper case; None if it ends in none."""
        found = QUANT.search(self.stem.rsplit("/", 1)[-1])
        return _plain(found[1]) if found else None

    @property
    def role(self) -> Role | None:
        """What the name says the file is; None for files beside a model."""
        name = self.stem.rsplit("/", 1)[-1]
        if "mmproj" in name.lower():
            return "mmproj"
        return None if SIDE.search(name) else "model"

    @property
    def candidate(self) -> Candidate:
        """The file as errors list it."""
        return Candidate(self.path, self.quant, self.size)


def select(model: Model, repo_files: Iterable[Listed], commit: str) -> tuple[RemoteFile, ...]:
    """The files that the catalog means: the model's parts in order, then the projector's.

    Raises:
        FileNotFound: no file fits; lists those of the same role.
        Ambiguous: several fit; lists them.
        SplitIncomplete: a split file lacks parts.
    """
    files = tuple(repo_files)
    return (
        *_one(model, files, commit, "model", model.quant, model.file),
        *_one(model, files, commit, "mmproj", model.mmproj, model.mmproj_file),
    )


def _one(
    model: Model, files: tuple[Listed, ...], commit: str, role: Role, quant: str | None, name: str | None
) -> tuple[RemoteFile, ...]:
    """The one file of a role, all its parts."""
    noun, key = ("model file", "file") if role == "model" else ("vision projector", "mmproj_file")
    of_role = sorted((file for file in files if file.role == role), key=lambda file: file.path)
    if name is not None:
        wanted = f"{noun} named {name}"
        fitting = [file for file in files if file.path == name]
    else:
        wanted = f"{noun} of quantization {quant}"
        fitting = [file for file in of_role if file.quant == _plain(quant or "")]
    sets = {(file.stem, file.split[1]) for file in fitting}
    if not sets:
        shown = of_role or sorted(files, key=lambda file: file.path)
        way = f"it may have been renamed; name one of these by `{key}` in the catalog"
        raise FileNotFound(model.repo, commit, wanted, [file.candidate for file in shown], way)
    if len(sets) > 1:
        raise Ambiguous(model.repo, commit, wanted, [file.candidate for file in fitting], key)
    ((stem, parts),) = sets
    found = sorted((f for f in files if (f.stem, f.split[1]) == (stem, parts)), key=lambda file: file.split)
    missing = sorted(set(range(1, parts + 1)) - {file.split[0] for file in found})
    if missing:
        raise SplitIncomplete(model.repo, commit, stem, parts, missing)
    return tuple(RemoteFile(f.path, f.size, f.sha256, role, *f.split) for f in found)


def _plain(quant: str) -> str:
    """Upper case, and FP16 as F16: makers write both for the same thing."""
    return re.sub(r"^FP(16|32)$", r"F\1", quant.upper())
