"""One message to where a person reads it: a Slack-compatible webhook, or a topic of ntfy; and those that wait.

Comes in: the address, and messages that name thing, state and next command. Goes out: a POST each, and nothing but:

    AlertError
    |- NotAccepted     the receiver does not want this message (400, 413, 422): no later attempt helps it
    `- NotDelivered    it may be told later: no answer, busy, or the address is refused (401, 403, 404, 410...)

The address is a secret (who has it may write), so errors name its host only; and what a message quotes is cleaned of
the values of our secrets and of what addresses carry behind `?`. Not here: what is worth telling
(`automation/telling.py`). Sources: Slack's "Sending messages using incoming webhooks", ntfy's "Publish as JSON".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from llama_assets.patience import patiently

if TYPE_CHECKING:
    import httpx

Format = Literal["slack", "ntfy"]
NOT_FOR_LATER = (400, 413, 422)  # about the message; what else is refused is about the address or the moment
BEHIND_THE_ADDRESS = re.compile(r"(https?://[^\s?#'\"<>]*)[?#][^\s'\"<>)\]]*")
NAMED_IN_THE_ADDRESS = re.compile(r"(https?://)[^\s/@'\"<>]+@")


@dataclass(frozen=True)
class AlertLimits:
    """The room's numbers. `attempts` counts tries of one message now; later ones are the caller's."""

    timeout_s: float = 5.0
    attempts: int = 3
    first_wait_s: float = 0.5  # doubles
    longest_wait_s: float = 5.0  # a longer Retry-After is left to the next tick
    kept: int = 50  # messages that wait; the oldest goes first
    deliver_s: float = 15.0  # no further message is begun after that: who delivers has a minute in all
    said_characters: int = 600  # of one message's state: ntfy makes a file of more than 4096 bytes


class AlertError(Exception):
    """A message was not taken; `host` is the receiver, `said` its answer; `transient`: worth asking again at once."""

    exit_status = 1
    transient = False
    way_out = ""

    def __init__(self, host: str, said: str, retry_after_s: float | None = None) -> None:
        super().__init__(host, said, retry_after_s)
        self.host, self.said, self.retry_after_s = host, said, retry_after_s

    def __str__(self) -> str:
        return f"{self.host} {self.said}; {self.way_out}"


class NotAccepted(AlertError):
    """400, 413 or 422: the receiver does not want this message, now or later."""

    way_out = "is LLAMA_ASSETS_ALERT_FORMAT the receiver's? `llama-assets alerts test` sends one message"


class NotDelivered(AlertError):
    """No answer, a busy one, or an address that is refused: the message is kept, and sent again later."""

    way_out = "it is sent again; correct LLAMA_ASSETS_ALERT_URL if this lasts, `llama-assets alerts test` tries it"


@dataclass(frozen=True)
class Message:
    """What is told: the thing, its state, what to do next, and where it is seen. `good`: nothing is to be done."""

    thing: str
    state: str
    todo: str = ""
    link: str = ""
    good: bool = False

    @property
    def title(self) -> str:
        """One line."""
        return f"llama-assets: {self.thing}"

    @property
    def text(self) -> str:
        """What follows the title, a thing a line."""
        return "\n".join(line for line in (self.state, self.todo and f"Next: {self.todo}", self.link) if line)

    def cleaned(self, secrets: Iterable[str], longest: int) -> Message:
        """The same without secrets, and no longer than a person reads."""
        told = self.state
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            told = told.replace(secret, "***")
        told = NAMED_IN_THE_ADDRESS.sub(r"\1", BEHIND_THE_ADDRESS.sub(r"\1", told)).strip()
        return replace(self, state=told if len(told) <= longest else f"{told[: longest - 3].rstrip()}...")


@dataclass(frozen=True)
class Receiver:
    """Where messages go. `url` is a webhook, or with `ntfy` the address of a topic."""

    url: str = field(repr=False)
    format: Format = "slack"
    limits: AlertLimits = AlertLimits()

    @property
    def host(self) -> str:
        """What of the address may be said."""
        return urlsplit(self.url).hostname or "the address in LLAMA_ASSETS_ALERT_URL"

    def send(self, message: Message) -> str:
        """Tell it, and tell what the receiver answered.

        Raises:
            NotAccepted: never to be sent again.
            NotDelivered: to be sent again, later.
        """
        return patiently(lambda: self._once(message), self.limits, AlertError)

    def _once(self, message: Message) -> str:
        import httpx

        address, body = _ntfy(self.url, message) if self.format == "ntfy" else (self.url, _slack(message))
        try:
            answer = httpx.post(address, json=body, timeout=self.limits.timeout_s)
        except httpx.InvalidURL:
            raise NotDelivered(self.host, "is in no address that can be asked") from None
        except httpx.TransportError as error:  # its text may quote the address
            raise Busy(self.host, f"does not answer ({type(error).__name__})") from None
        said = f"answered {answer.status_code}{_words(answer)}"
        if answer.is_success:
            return f"{self.host} {said}"
        if answer.status_code in NOT_FOR_LATER:
            raise NotAccepted(self.host, said)
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            after = answer.headers.get("Retry-After", "").strip()
            raise Busy(self.host, said, float(after) if after.isdigit() else None)
        raise NotDelivered(self.host, said)


class Busy(NotDelivered):
    """No answer, or one that asks for patience: the only one worth another attempt at once."""

    transient = True


@dataclass(frozen=True)
class Outbox:
    """Messages that were not delivered yet, oldest first, and how many were dropped since one last was."""

    waiting: tuple[Message, ...] = ()
    dropped: int = 0

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Outbox:
        """Read what `as_dict` gave."""
        return cls(tuple(Message(**message) for message in told.get("waiting", ())), told.get("dropped", 0))

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for a cursor."""
        return asdict(self)

    def with_more(self, messages: Iterable[Message], kept: int) -> Outbox:
        """With these behind the others; at most `kept`, the oldest are dropped and counted."""
        waiting = (*self.waiting, *messages)
        return Outbox(waiting[-kept:], self.dropped + max(0, len(waiting) - kept))

    def delivered(self, receiver: Receiver, say: Callable[[str], None]) -> Outbox:
        """What still waits after trying, in order, until one is not taken or time is up. Raises nothing."""
        waiting, dropped = list(self.waiting), self.dropped
        until = time.monotonic() + receiver.limits.deliver_s
        while waiting and time.monotonic() < until:
            first = waiting[0]
            if dropped:
                first = replace(first, state=f"{first.state}\n({dropped} earlier messages could not be delivered)")
            try:
                receiver.send(first)
            except NotAccepted as error:
                say(f"dropped, {error}: {first.title}")
            except NotDelivered as error:
                say(f"{len(waiting)} kept, {error}" + (f"; {dropped} older ones dropped" if dropped else ""))
                break
            else:
                dropped = 0
            del waiting[0]
        return Outbox(tuple(waiting), dropped)


def _slack(message: Message) -> dict[str, Any]:
    def plain(text: str) -> str:  # the three that Slack reads as its own
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    mark = ":white_check_mark:" if message.good else ":red_circle:"
    return {"text": f"{mark} *{plain(message.title)}*\n{plain(message.text)}"}


def _ntfy(url: str, message: Message) -> tuple[str, dict[str, Any]]:
    """JSON goes to the server's root and names the topic: a header could hold neither title nor tags beyond ASCII."""
    parts = urlsplit(url)
    root, _, topic = parts.path.rstrip("/").rpartition("/")
    body = {
        "topic": topic,
        "title": message.title,
        "message": message.text,
        "priority": 3 if message.good else 4,
        "tags": ["white_check_mark" if message.good else "red_circle"],
    }
    return urlunsplit(parts._replace(path=f"{root}/")), {**body, "click": message.link} if message.link else body


def _words(answer: httpx.Response) -> str:
    """The receiver's own words, without a web page's."""
    if "text/html" in answer.headers.get("Content-Type", ""):
        return ""
    try:
        said = answer.json()
        words = said.get("error") or said.get("message") or "" if isinstance(said, dict) else ""
    except json.JSONDecodeError:
        words = answer.text
    return f" ({str(words).strip()[:200]})" if str(words).strip() else ""
