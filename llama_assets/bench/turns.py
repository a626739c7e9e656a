"""The plan performed, under the lease: load, warm up, ask, one row a request on disk before the next one leaves.

Here: what an answer, a crash, a time-out, a foreign model mean for the arm; all of it between two requests, so nothing
is done here that could be done before or after the lease (figure `overhead_turn`). Not here: folders and resuming
(`session`), what is asked (`plan`), what is hopeless (`canary`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from .asking import Ask, Engine, Logged, Reply
from .canary import Canary, CanaryLimits, Served, Unanswered, examine, request, to_json
from .causes import of_error, of_load
from .plan import Ask as Asked
from .plan import Turn
from .question import Judged, judge_answer
from .record import Comparison, EndedBy, Record, StoppedBy, plain, stamp
from .rows import Row, RowWriter, storable
from .watching import ABSENT, Disturbance, Watcher, WatchLimits, noted

Say = Callable[[str], None]


@dataclass(frozen=True)
class SessionLimits:
    """When an arm is given up, and how often others are looked for."""

    crashes_in_a_row: int = 3
    timeouts_in_a_row: int = 5  # at two minutes each this is what a lent card is worth
    load_tries: int = 2
    sample_s: float = 2.0  # asking an engine what runs costs it a little, so not after every quick answer
    progress_s: float = 15.0
    canary: CanaryLimits = field(default_factory=CanaryLimits)
    watch: WatchLimits = field(default_factory=WatchLimits)


@dataclass(frozen=True)
class StopRule:
    """When a session has enough before its plan is done; it is finished then, and the reason is in session.json.

    `enough` sees all rows at the end of each even number of blocks, when every arm has answered the same photos: it
    must look at how well the arms are known, never at who is ahead (facts: stopping on a verdict makes 9 to 41 % of
    equal arms look different, stopping on width alone 3 to 4 %). `budget_s` are leased seconds, those of earlier leases
    included; it ends between two requests.
    """

    enough: Callable[[Sequence[Row]], bool] | None = None
    budget_s: float | None = None


@dataclass(frozen=True)
class Holding:
    """The card while we use it. `disturbed` says since when others may have used it, None while nothing is known."""

    token: int | None = None
    still_held: Callable[[], bool] = lambda: True
    disturbed: Callable[[], Disturbance | None] = lambda: None


@dataclass(frozen=True)
class Clock:
    """Time, so that tests can drive it. `now` is for people, `seconds` never jumps."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    seconds: Callable[[], float] = time.monotonic


class Stop(Protocol):
    """A `threading.Event`, or anything like it."""

    def is_set(self) -> bool:
        """Stop before the next request."""


class Never:
    """Nobody stops this session."""

    def is_set(self) -> bool:
        """No."""
        return False


class _Halt(Exception):
    """Stop before the next request; the reason is the message."""


class _Enough(Exception):
    """The session is done before its plan; the message says why."""

    def __init__(self, by: StoppedBy, why: str) -> None:
        self.by: StoppedBy = by
        super().__init__(why)


class _Ended(Exception):
    """This arm is given up; the reason is the message, and `by` what kind of reason it is."""

    def __init__(self, reason: str, by: EndedBy) -> None:
        self.by: EndedBy = by
        super().__init__(reason)


@dataclass
class Turns:
    """What is left of a session, asked; `everything` does it. `writers` hold the rows that are there, by model."""

    comparison: Comparison
    record: Record
    engine: Engine
    holding: Holding
    say: Say
    stop: Stop
    clock: Clock
    limits: SessionLimits
    writers: dict[str, RowWriter]
    rule: StopRule = field(default_factory=StopRule)
    watcher: Watcher | None = None
    answering: str = ""
    """The engine that is there, where arms name theirs."""

    def __post_init__(self) -> None:
        self.photos = {photo.name: photo for photo in self.comparison.photos.photos}
        rows = [row for writer in self.writers.values() for row in writer.rows]
        self.asked = {(row.model, row.photo) for row in rows}
        self.position = max((row.position or 0 for row in rows), default=0)
        self.ready: str | None = None  # the model that is loaded, warm, and ours
        self.crashes = Counter[str]()  # in a row, by arm
        self.timeouts = Counter[str]()
        self.begun = self.sampled_at = self.said_at = self.clock.seconds()
        self.spent = sum(lease["seconds"] or 0.0 for lease in self.record.values["leases"][:-1])
        self.checked = 0  # blocks after which the rule was asked
        self.cached: set[str] = set()  # arms whose prompts came from a cache, and that was said
        self.found: list[dict[str, Any]] = list(self.record.values["contamination"])
        self.spans = 0

    def stamp(self) -> str:
        """Now, for session.json."""
        return stamp(self.clock.now())

    def everything(self) -> str | None:
        """All turns; returns why it stopped early, None at the end."""
        try:
            for number, turn in enumerate(() if self.record.stopped else self.comparison.plan.turns, 1):
                todo = [ask for ask in turn.asks if (turn.model, ask.photo) not in self.asked]
                if todo and turn.model not in self.record.ended():
                    if (wanted := self.comparison.engine_of(turn.model)) not in ("", self.answering):
                        self.say(f"turn {number} of {self.comparison.plan.loads}: {turn.model} is for {wanted}")
                        break
                    self._turn(number, turn, todo)
        except _Halt as halt:
            self.say(f"{halt}; what has been answered is kept, and the session can be continued")
            return str(halt)
        except _Enough as enough:
            stopped = {"by": enough.by, "why": str(enough), "at": self.stamp(), "position": self.position}
            self.record.values["stopped"] = stopped
            self.record.write()
            self.say(f"the session ends here: {enough}")
        return None

    def _turn(self, number: int, turn: Turn, todo: Sequence[Asked]) -> None:
        self.say(f"turn {number} of {self.comparison.plan.loads}: {turn.model}, {len(todo)} photos")
        try:
            self._enough(todo[0].block - 1)
            self._bring_up(turn.model, todo[0].photo, "turn")
            for ask in todo:
                self._enough(ask.block - 1)
                if self.ready != turn.model:
                    self._bring_up(turn.model, ask.photo, "crash" if self.crashes[turn.model] else "unloaded")
                self._ask(turn.model, ask)
        except _Ended as ended:
            self._ready(None)
            self.record.arm(turn.model).update(ended=str(ended), ended_by=ended.by)
            self.record.write()
            self.say(f"{turn.model} is given up: {ended}")

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise _Halt("stopped")
        if not self.holding.still_held():
            raise _Halt("lease lost")
        leased = self.spent + self.clock.seconds() - self.begun
        if self.rule.budget_s is not None and leased >= self.rule.budget_s:
            raise _Enough("lease_minutes", f"its {self.rule.budget_s / 60:g} leased minutes are over")

    def _ready(self, model: str | None) -> None:
        self.ready = model
        if self.watcher:
            self.watcher.expect(model)

    def _enough(self, blocks: int) -> None:
        """Ask the rule once after each even number of blocks, if all arms that go on have answered all of them."""
        if self.rule.enough is None or not blocks or blocks % 2 or blocks <= self.checked:
            return
        self.checked = blocks
        ended = self.record.ended()
        asked = [photo for block in self.comparison.plan.blocks[:blocks] for photo in block]
        arms = [model for model in self.comparison.plan.arms if model not in ended]
        rows = [row for model in arms for row in self.writers[model].rows]
        if {(model, photo) for model in arms for photo in asked} <= self.asked and self.rule.enough(rows):
            raise _Enough("narrow_enough", f"after {blocks} blocks the intervals are narrow enough")

    def _bring_up(self, model: str, next_photo: str, why: str) -> None:
        """Load until a warm-up image is answered; the arm's first time, its canary too."""
        if self.ready == model:
            return
        self._ready(None)
        while True:
            entry = self._load(model, why)
            try:
                self._warm_up(model, self._warm_up_photo(model, next_photo), entry)
            except Unanswered as failed:
                entry["error"] = failed.reply.error or failed.reply.status
                self._crashed(model, f"the warm-up image was not answered: {entry['error']}")
                why = "crash"
                continue
            finally:
                self.record.write()
            self._ready(model)
            self.say(f"{model} is loaded ({entry['seconds']:.1f} s) and warm ({entry['warm_up_seconds']:.1f} s)")
            return

    def _load(self, model: str, why: str) -> dict[str, Any]:
        """Load; returns the entry in session.json. Raises _Ended."""
        for tries_left in reversed(range(self.limits.load_tries)):
            self._go_on()
            entry: dict[str, Any] = {
                "model": model, "why": why, "started_at": self.stamp(), "position": self.position + 1,
                "seconds": None, "cold": None, "warm_up_seconds": None, "error": None,
            }  # fmt: skip
            self.record.values["loads"].append(entry)
            begun = self.clock.seconds()
            try:
                load = self.engine.load(model)
            except Exception as error:  # whatever the engine's trouble is, the other arms go on without this one
                entry |= {"seconds": self.clock.seconds() - begun, "error": f"{type(error).__name__}: {error}"}
                if not tries_left:
                    likely = of_load(str(error))
                    raise _Ended(
                        (f"{likely[1]}; " if likely else "") + f"it could not be loaded: {error}", "load"
                    ) from error
                self.say(f"{model} could not be loaded, trying again: {error}")
                why = "retry"
                continue
            entry |= {"seconds": load.seconds, "cold": load.cold}
            return entry
        raise ValueError(f"load_tries = {self.limits.load_tries}: at least 1")

    def _warm_up_photo(self, model: str, next_photo: str) -> str:
        """Not the photo that is measured next, and after each crash another one: one photo may be what kills it."""
        others = [name for name in self.photos if name != next_photo] or [next_photo]
        return others[-1 - self.crashes[model] % len(others)]

    def _warm_up(self, model: str, photo: str, entry: dict[str, Any]) -> None:
        """One image that is not measured: the first one after a load is slower. Raises Unanswered, _Ended."""
        asked = self._request(photo)

        def ask(what: Ask) -> Reply:
            reply = self.engine.ask(model, what)
            entry["warm_up_seconds"] = (entry["warm_up_seconds"] or 0.0) + reply.seconds
            return reply

        reply = ask(asked)
        if reply.status != "ok":
            if likely := of_error(reply.error):
                seen = Canary(f"{likely[1]}; it said: {reply.error}", cause=likely[0])
                self.record.arm(model)["canary"] = to_json(seen)
                raise _Ended(str(seen.reason), "canary")
            raise Unanswered(reply)
        self._note_engine(model)
        arm = self.record.arm(model)
        if arm["canary"] is None:
            known = Served(arm.get("architecture"), (arm["engine"] or {}).get("build"), self._log(model))
            seen = examine(reply, asked, ask, self.comparison.question, self.limits.canary, known)
            arm["canary"] = to_json(seen)
            if seen.reason is not None:
                raise _Ended(seen.reason, "canary")

    def _note_engine(self, model: str) -> None:
        arm = self.record.arm(model)
        try:
            about = plain(self.engine.about(model))
        except Exception as error:  # it answers images; what it says of itself is worth no arm
            self.say(f"the engine does not say what it is: {type(error).__name__}: {error}")
            return
        if arm["engine"] is None:
            arm["engine"] = about
        elif about != [arm["engine"], *(change["now"] for change in arm.get("engine_changes", ()))][-1]:
            change = {"at": self.stamp(), "position": self.position + 1, "now": about}
            arm.setdefault("engine_changes", []).append(change)
            self.say(f"{model} is answered by another engine than before: {about}")

    def _log(self, model: str) -> str:
        try:
            return self.engine.log(model) if isinstance(self.engine, Logged) else ""
        except Exception as error:  # it only explains
            self.say(f"the engine does not show its log: {type(error).__name__}: {error}")
            return ""

    def _request(self, photo: str) -> Ask:
        jpeg = self.comparison.photos.jpeg(self.photos[photo])
        return request(self.comparison.question, jpeg, self.comparison.max_tokens, self.comparison.answer_timeout_s)

    def _ask(self, model: str, ask: Asked) -> None:
        what = self._request(ask.photo)
        self._go_on()
        started = self.clock.now()
        reply = self.engine.ask(model, what)
        held = self._held(model, reply)
        text = storable(reply.text) if reply.text or reply.status == "ok" else None
        judged = judge_answer(text or "", self.comparison.question) if reply.status == "ok" else Judged(None, False)
        self.position += 1
        row = Row(
            session=self.record.folder.name,
            model=model,
            photo=ask.photo,
            position=self.position,
            started_at=started,
            seconds=reply.seconds,
            status=reply.status,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            prompt_seconds=reply.prompt_seconds,
            generation_seconds=reply.generation_seconds,
            cold_load=False,  # each load is followed by a warm-up, and one that others caused is marked
            error=None if reply.error is None else storable(reply.error),
            answer_text=text,
            answer_json=None if judged.answer_json is None else storable(judged.answer_json),
            schema_valid=judged.schema_valid,
            block=ask.block,
            lease_token=self.holding.token,
            cached_tokens=reply.cached_tokens,
            marked=self._mark(model, reply, held, started),
        )
        self.writers[model].append(row)
        self.asked.add((model, ask.photo))
        self._count(model, reply, held)
        self._progress(model, ask)

    def _held(self, model: str, reply: Reply) -> list[str] | None:
        """Models that the engine holds; None where it was not asked, which is after most quick answers."""
        if reply.status == "ok" and self.clock.seconds() - self.sampled_at < self.limits.sample_s:
            return None
        self.sampled_at = self.clock.seconds()
        self.record.values["running_samples"] += 1
        try:
            running = self.engine.running()
        except Exception as error:  # an engine that does not say is not there; the row in hand must still be written
            self.say(f"the engine does not say what it runs: {type(error).__name__}: {error}")
            return []
        return [
            one.model for one in running if one.state == "ready" or (one.model != model and one.state not in ABSENT)
        ]

    def _mark(self, model: str, reply: Reply, held: list[str] | None, started: datetime) -> str | None:
        disturbed = self.holding.disturbed()
        reasons = [disturbed.why] if disturbed else []
        if reply.cached_tokens:
            reasons.append(f"{reply.cached_tokens} tokens of the prompt came from the engine's cache")
            if model not in self.cached:
                self.cached.add(model)
                self.say(f"{model}: {reasons[-1]}, although it was asked not to use it; such rows are marked")
        if others := sorted(set(held or ()) - {model}):
            reasons.append(f"{', '.join(others)} was loaded beside or instead of {model}")
            found = {"at": self.stamp(), "position": self.position, "model": model, "found": others}
            self.found.append(found)
            self.note_contamination()
            self.record.write()
        if self.watcher:
            reasons += self.watcher.disturbed(started, self.clock.now())
            if len(spans := self.watcher.spans()) > self.spans:
                self.spans = len(spans)
                self.say(f"somebody else was seen: {spans[-1].why}")
                self.note_contamination()
                self.record.write()
        return "; ".join(dict.fromkeys(reasons)) or None

    def note_contamination(self) -> None:
        """What was seen of others up to now, for session.json; rows of that time are marked when the session ends."""
        seen = [span.to_json() for span in self.watcher.spans()] if self.watcher else []
        self.record.values["contamination"] = noted([*self.found, *seen], self.holding.disturbed(), self.stamp())

    def _count(self, model: str, reply: Reply, held: list[str] | None) -> None:
        """What the answer means for the arm: gone on, loaded again, or given up."""
        gone = held is not None and model not in held
        if gone:
            self._ready(None)
        if reply.status == "ok":
            self.crashes[model] = self.timeouts[model] = 0
        elif gone and not held:  # with another model in its place it was pushed out, and did not crash
            self._crashed(model, reply.error or "the engine died while answering")
        elif reply.status == "timeout":
            self.timeouts[model] += 1
            if (count := self.timeouts[model]) >= self.limits.timeouts_in_a_row:
                raise _Ended(
                    f"{count} answers in a row took longer than {self.comparison.answer_timeout_s:g} s", "timeouts"
                )

    def _crashed(self, model: str, what: str) -> None:
        self.crashes[model] += 1
        if (count := self.crashes[model]) >= self.limits.crashes_in_a_row:
            raise _Ended(f"{count} crashes in a row; the last: {what}", "crashes")

    def _progress(self, model: str, ask: Asked) -> None:
        now = self.clock.seconds()
        if now - self.said_at >= self.limits.progress_s:
            self.said_at = now
            blocks = len(self.comparison.plan.blocks)
            total = self.comparison.plan.asks
            self.say(f"{len(self.asked)} of {total} answers; {model} in block {ask.block} of {blocks}")
