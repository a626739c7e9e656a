"""What a task is asked and what it answers: the JSON that crosses the border between a run and a task.

A run learns fingerprints, figures and verdicts only from these answers, because in a cluster its process has no volume
mounted. Not here: how they travel (`launch.task` out, `pipes` back), what a task does (one file per kind).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from llama_assets.catalog import Automation, Catalog, Engine, Model
from llama_assets.launch import TaskKind

AUTOMATIC_WAIT_S = 49 * 3600.0
"""Rules repeat daily: within two local days (one may have 25 hours) the longest window there is has begun."""


class Message(BaseModel):
    """JSON of a known shape; a key that nobody expects is an error, because both sides are the same version."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(Message):
    """What one kind of task is asked. `about` is the one model it is about, if it is about one."""

    kind: ClassVar[TaskKind]

    @property
    def about(self) -> str | None:
        """The model's id for the task's label."""
        return None

    @property
    def deadline_s(self) -> float | None:
        """How long its Job may run; None: as long as any task's."""
        return None


class Download(Request):
    """Fetch, verify and publish what the followed revision of one model selects."""

    kind: ClassVar[TaskKind] = "download"
    model: Model
    promotion: Literal["at_once", "on_verdict"] = "at_once"

    @property
    def about(self) -> str:
        """The model's id."""
        return self.model.id


class Serving(Message):
    """How models are served, and what automation may do: what candidates and quarantine depend on beside the store.

    `image` is the engine's, None where it is no pod of ours; `tried_image` is measured beside it. `ours` is whether we
    tell the engine what to serve.
    """

    engine: Engine
    automation: Automation
    image: str | None = None
    tried_image: str | None = None
    ours: bool = True


class Inspect(Request):
    """What the store holds for these models; with `verify`, every byte of the current files is hashed again, and with
    `repair` what is gone or damaged is fetched anew.

    With `serving` the answer names candidates and what is quarantined, too; `automatic` as in `Benchmark`.
    """

    kind: ClassVar[TaskKind] = "store"
    models: tuple[Model, ...]
    verify: bool = False
    repair: bool = False
    serving: Serving | None = None
    automatic: bool = False


class Benchmark(Request):
    """One session a question: every model of `catalog` is an arm, all under one lease.

    `question` is `bench.Question` as JSON, `further` the other ones of the catalog by their names.

    `automatic`: no person asked for it, so the catalog's quiet hours and downtime a day hold for its lease. Who
    `asks_again` at the time that it names does not want it to wait for long.

    `engine_image` is what the engine's pod is made from now, None: the chosen image. One lease is one image, so of a
    session with arms of another one a task asks a part, and its answer says which image is wanted next.
    `engine_trouble` is why no pod of the image becomes ready: then its arms are given up.
    """

    kind: ClassVar[TaskKind] = "benchmark"
    catalog: Catalog
    question: dict[str, Any]
    further: dict[str, dict[str, Any]] = {}
    automatic: bool = False
    asks_again: bool = False
    engine_image: str | None = None
    engine_trouble: str = ""

    @property
    def deadline_s(self) -> float | None:
        """An automatic one may wait for its hours and minutes: two days at most, before the six hours of any task."""
        return AUTOMATIC_WAIT_S + 6 * 3600 if self.automatic and not self.asks_again else None


class Judge(Request):
    """The verdict over the newest finished session of a question; nothing is asked of any model."""

    kind: ClassVar[TaskKind] = "verdict"
    catalog: Catalog
    question_name: str = ""


class Hold(Request):
    """Take the card, keep it for `minutes` or until released, give it back. With `dry_run` nothing is written, and the
    answer is `Previewed`.
    """  # fmt: skip

    kind: ClassVar[TaskKind] = "hold"
    catalog: Catalog
    minutes: float
    dry_run: bool = False

    @property
    def deadline_s(self) -> float:
        """The minutes asked for, and an hour to start, to wait for the card, and for tenants to go and come back."""
        return self.minutes * 60 + 3600


class Answer(Message):
    """What one kind of task answers."""


class FileFacts(Message):
    """One file of the store. `bytes` is its size; `path` is the name it has on the Hub, if that is known."""

    role: Literal["model", "mmproj"]
    part: int
    sha256: str
    bytes: int
    path: str | None = None


class ModelFiles(Message):
    """One verified, published set of files: a model and its projector."""

    model: str
    fingerprint: str
    bytes: int
    files: tuple[FileFacts, ...]
    model_file: str
    mmproj_file: str
    architecture: str | None = None
    context_length: int | None = None


class FoundVersion(Message):
    """What some followed files are on the Hub: the commit, their fingerprint, and their bytes in all."""

    revision: str
    fingerprint: str
    bytes: int


class Downloaded(Answer):
    """The files now current. `update_error` says why they are not those of the followed revision, if they are not.

    `candidate` are the files of the followed revision while they are not current; `revision` is theirs then, and
    `held_back` says why, unless it is that they wait for their verdict. `tried` are the files that the catalog's
    candidate names, `tried_error` why they are not to be had or not to be tried; `tried_failed`: not to be had.
    `tried_version` is what the Hub has of them.
    """

    current: ModelFiles
    candidate: ModelFiles | None = None
    repo: str
    revision: str | None
    seconds: float
    fetched_bytes: int
    update_error: str | None = None
    held_back: str = ""
    tried: ModelFiles | None = None
    tried_error: str | None = None
    tried_failed: bool = False
    tried_version: FoundVersion | None = None

    @property
    def followed(self) -> ModelFiles:
        """The newest verified files: the candidate if there is one, else what is current."""
        return self.candidate or self.current


class FileFault(Message):
    """One thing wrong with a stored file: which check found it and what it says."""

    check: Literal["sha256", "header", "projector"]
    says: str


class Candidate(Message):
    """A set beside what is current. `arm` is its name in a session and with the engine.

    `due`: a benchmark measures it; else it waits for a person. `last` is what its newest session said.
    """

    arm: str
    model: str
    files: ModelFiles
    due: bool
    tries: int
    last: str


class Inspected(Answer):
    """What the store holds. `faults` are per model and empty when `verify` was not asked.

    `quarantined` says why an arm is neither served nor measured; its model may be in `current` all the same.
    """

    current: dict[str, ModelFiles]
    faults: dict[str, tuple[FileFault, ...]]
    candidates: tuple[Candidate, ...] = ()
    quarantined: dict[str, str] = {}


class ArmResult(Message):
    """What a session found for one model. `figures` are flat and stable: they become plots.

    `engine_image` is what the pod that answered ran, with its digest after an `@` where the node knew it.
    """

    figures: dict[str, float | int]
    fingerprint: str | None
    engine_image: str | None = None
    failed: str | None = None
    photos: tuple[dict[str, Any], ...] = ()
    picture_png: str | None = None


class VerdictResult(Message):
    """The judged session. `text` is the 80-column verdict, `markdown` the same for the UI; `picture_png` is base64."""

    figures: dict[str, float | int]
    verdict: str
    recommendation: str | None
    text: str
    markdown: str
    report: str
    picture_png: str | None = None


class Answered(Message):
    """What the session of a further question found: its arms' figures, and why others could not be measured."""

    session: str
    figures: dict[str, dict[str, float | int]]
    failed: dict[str, str]
    verdict: VerdictResult | None


class Settled(Message):
    """What became of a candidate. `word` is the verdict on it as a whole, `session` the one that said so.

    `recommend`: what the catalog tries is better, and a person has to write it there; `reason` says how.
    """

    arm: str
    model: str
    fingerprint: str
    session: str
    action: Literal["promote", "recommend", "reject", "wait"]
    word: Literal["better", "worse", "equivalent", "inconclusive"]
    reason: str


class Postponed(Message):
    """An automatic lease may not be had soon. `until` is when to ask again, `why` a sentence without its stop."""

    until: AwareDatetime
    why: str


class Benchmarked(Answer):
    """A session's end. `session` is its folder; arms that could not be measured have `failed` set.

    A model whose candidate was promoted has that one's figures. `quarantined` models were not measured, and why.
    `further` are the sessions of the further questions, by name. `postponed`: nothing was begun, and is to be asked for
    again. `engine_wanted`: the session is not done, and what is left is for an engine from this image.
    """

    session: str
    arms: dict[str, ArmResult]
    verdict: VerdictResult | None
    settled: tuple[Settled, ...] = ()
    quarantined: dict[str, str] = {}
    further: dict[str, Answered] = {}
    postponed: Postponed | None = None
    engine_wanted: str | None = None


class Judged(Answer):
    """The verdict over a session that was measured earlier."""

    session: str
    verdict: VerdictResult


class Held(Answer):
    """The card was held and given back. `tenants` maps each to the replicas found, null where it was not touched.

    `ended_by`: time was up, a release was asked for, the task was told to stop, the lease was lost, or a human changed
    a workload; `says` is that in a sentence. `left` says what became of each workload that was put back.
    """

    holder: str
    token: int
    seconds: float
    ended_by: Literal["time", "release", "signal", "lost", "changed"]
    says: str
    tenants: dict[str, int | None]
    left: tuple[str, ...] = ()


class Previewed(Answer):
    """What taking the card would do. `obstacles` are why it would fail; none of it was written."""

    held_by: str | None
    token: int
    lines: tuple[str, ...]
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What came back from a task: its answer, or why there is none."""

    answer: dict[str, Any] | None
    failed: str | None

    @classmethod
    def of(cls, messages: Sequence[Any]) -> Said:
        """Picked out of a Pipes session's custom messages; the last of each counts."""
        answer = failed = None
        for message in messages:
            answer, failed = message.get("answer", answer), message.get("failed", failed)
        return cls(answer, failed)
