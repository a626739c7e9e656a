"""What differs between two versions of a GGUF file, by their headers: template, metadata, vocabulary, tensor table.

Comes in: the first bytes of both, as many as their headers have. Goes out: what differs, as names and as a sentence.
Tensor data is not looked at, and the sentence says so: that a file's bytes are others, the caller knows by its sha256.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llama_assets.store.header import Header, Tensor, parse

TEMPLATE = "tokenizer.chat_template"
_SHOWN = 4  # names in a sentence


@dataclass(frozen=True)
class Difference:
    """What two headers do not have in common; names as they are in the files. `where` counts tensors only moved."""

    template: bool = False
    keys: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    where: int = 0

    def __str__(self) -> str:
        """As what stands after the file's name and a colon."""
        parts = [*self._metadata(), *self._tensors()]
        if not parts:
            return "the header is the same, so its tensor data differs"
        if self == Difference(template=True):
            return "of the header only the chat template differs; tensor data was not read"
        return f"{'; '.join(parts)}; tensor data was not read"

    def _metadata(self) -> list[str]:
        said = ["the chat template differs"] if self.template else []
        if self.keys:
            said.append(f"metadata differs: {_listed(self.keys)}")
        if self.arrays:
            said.append(f"lists differ: {_listed(self.arrays)}")
        return said

    def _tensors(self) -> list[str]:
        kinds = (
            (self.added, "new"),
            (self.gone, "gone"),
            (self.reshaped, "of another shape"),
            (self.retyped, "of another type"),
        )
        said = [f"{len(names)} {what} ({_listed(names)})" for names, what in kinds if names]
        if self.where:
            said.append(f"{self.where} at another place")
        return [f"tensors: {', '.join(said)}"] if said else []


def difference(old: bytes, new: bytes, name: str = "the file") -> Difference:
    """What differs between the headers that these bytes begin with; `name` is how errors call the file.

    Raises:
        BadHeader: one is no GGUF, or longer than the bytes handed in.
    """
    before, after = parse(io.BytesIO(old), name), parse(io.BytesIO(new), name)
    keys = _different(before.meta, after.meta)
    arrays = _different(_contents(before, old), _contents(after, new))
    had, has = _table(before), _table(after)
    both = [name for name in had if name in has]
    reshaped = tuple(name for name in both if had[name].shape != has[name].shape)
    retyped = tuple(name for name in both if had[name].kind != has[name].kind)
    added, gone = tuple(has.keys() - had.keys()), tuple(had.keys() - has.keys())
    alike = not (reshaped or retyped or added or gone)  # else others make room, which says nothing more
    return Difference(
        template=TEMPLATE in keys,
        keys=tuple(key for key in keys if key != TEMPLATE),
        arrays=arrays,
        added=tuple(sorted(added)),
        gone=tuple(sorted(gone)),
        reshaped=reshaped,
        retyped=retyped,
        where=sum(had[name].offset != has[name].offset for name in both) if alike else 0,
    )


def _contents(header: Header, data: bytes) -> dict[str, bytes]:
    return {key: data[start:end] for key, (start, end) in header.arrays.items()}


def _table(header: Header) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in header.tensors}


def _different(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(sorted(key for key in {**old, **new} if old.get(key) != new.get(key)))  # no value is None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
