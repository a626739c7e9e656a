"""The engine's image, as its registry sees it: is the pinned digest still there, and has its tag a newer one.

Comes in: the image of catalog or settings, a registry, what the last looks came to. Goes out: findings with their
sentence, and when to look again. Nothing is ever upgraded: a new engine answers differently, so a person pins it, and
automation then measures it. Not here: HTTP (`registry`), reporting (`automation/engine_image.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from llama_assets.catalog import EngineImage

if TYPE_CHECKING:
    from llama_assets.registry import Reference, Registry


@dataclass(frozen=True)
class WatchLimits:
    """How often a registry is asked, in seconds."""

    every_s: float = 86400.0
    after_trouble_s: float = 3600.0  # unless the registry says how long
    lasting_s: float = 3 * 86400.0  # trouble of a registry is weather before, and a finding from then on
    longest_wait_s: float = 7 * 86400.0  # whatever Retry-After says


@dataclass(frozen=True)
class Finding:
    """What one check says. `severe`: pods cannot start any more; else somebody may want to know."""

    good: bool
    says: str
    severe: bool = False


@dataclass(frozen=True)
class ImageLook:
    """One look. A finding is None where the registry did not tell; `trouble` is why, `passing` whether it may pass."""

    available: Finding | None = None
    newest: Finding | None = None
    trouble: str = ""
    passing: bool = False
    retry_after_s: float | None = None

    def lasting(self) -> ImageLook:
        """The same once trouble has lasted: what is not known becomes a finding."""
        unknown = Finding(False, f"not known: {self.trouble}")
        return replace(self, available=self.available or unknown, newest=self.newest or unknown)


def look_at_image(image: EngineImage, registry: Registry) -> ImageLook:
    """Ask for the digest, and for the tag; two small requests at most, and as many for tokens. Raises nothing."""
    from llama_assets.registry import NotThere, Reference, RegistryError

    available = newest = None
    try:
        asked = Reference.parse(image.reference)
        if asked.digest:
            available = _available(image, registry.exists(asked))
        if asked.digest and not asked.tag:
            says = f"pinned without a tag, so nothing is newer; {_to_write(image, ':TAG@' + asked.digest)} names one"
            return ImageLook(available, Finding(True, says))
        try:
            newest = _newest(image, asked, registry.digest_of(asked))
        except NotThere as error:
            newest = Finding(False, str(error))
        if not asked.digest:
            available = newest if not newest.good else Finding(True, f"{image.reference} is there, by its tag")
            available = replace(available, severe=not available.good)
    except RegistryError as error:
        return ImageLook(available, newest, str(error), error.transient, error.retry_after_s)
    return ImageLook(available, newest)


def _available(image: EngineImage, there: bool) -> Finding:
    if there:
        return Finding(True, f"{image.reference} can be pulled")
    says = (
        f"{image.reference} is gone from its registry: a node that has not pulled it cannot start the engine. "
        f"Pin another digest ({image.chosen_by}), or put a copy where you can keep it"
    )
    return Finding(False, says, severe=True)


def _newest(image: EngineImage, asked: Reference, now: str) -> Finding:
    tag = f":{asked.tag}@{now}"
    if asked.digest == now:
        return Finding(True, f"the tag {asked.tag} is the pinned digest")
    if asked.digest is None:
        return Finding(True, f"not pinned; the tag {asked.tag} is {now} now, and {_to_write(image, tag)} pins it")
    return Finding(False, f"the tag {asked.tag} is another engine now: {_to_write(image, tag)} would measure it")


def _to_write(image: EngineImage, which: str) -> str:
    """The line that a person writes where the image was chosen."""
    before, _, last = image.reference.partition("@")[0].rpartition("/")
    reference = f"{before}/{last.partition(':')[0]}{which}".lstrip("/")
    by_variable = image.chosen_by.startswith("LLAMA_ASSETS_")
    return f"`{image.chosen_by}={reference}`" if by_variable else f"`engine.image: {reference}` in the catalog"


@dataclass(frozen=True)
class ImageWatch:
    """What is kept between looks. Times are unix seconds."""

    image: str = ""
    next_s: float = 0.0
    failing_since_s: float | None = None

    @classmethod
    def from_json(cls, told: str | None) -> ImageWatch:
        """Read a cursor; an empty one looks at once."""
        return cls(**json.loads(told)) if told else cls()

    def to_json(self) -> str:
        """As a cursor."""
        return json.dumps(asdict(self))

    def due(self, image: EngineImage, now_s: float) -> bool:
        """Whether to look: it is time, or the image is another."""
        return image.reference != self.image or now_s >= self.next_s

    def after(self, image: EngineImage, look: ImageLook, now_s: float, limits: WatchLimits) -> ImageWatch:
        """What is kept now."""
        if not look.trouble:
            return ImageWatch(image.reference, now_s + limits.every_s)
        wait_s = limits.after_trouble_s if look.retry_after_s is None else look.retry_after_s
        wait_s = min(max(wait_s, limits.after_trouble_s), limits.longest_wait_s)
        since = self.failing_since_s if self.image == image.reference else None
        return ImageWatch(image.reference, now_s + wait_s, now_s if since is None else since)

    def lasts(self, look: ImageLook, now_s: float, limits: WatchLimits) -> bool:
        """Whether trouble is worth a finding: at once where waiting does not help."""
        if not look.trouble:
            return False
        return not look.passing or now_s - (now_s if self.failing_since_s is None else self.failing_since_s) >= (
            limits.lasting_s
        )
