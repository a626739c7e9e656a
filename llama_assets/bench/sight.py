"""Does a picture reach the model at all? Two plainly different ones are shown, and the next word's chances compared.

Here: the two pictures, the question, and what its two answers prove. Equal words prove nothing: a weak model may call
everything grey. Equal log-probabilities of the likeliest first tokens do: any path from a picture to the answer moves
them (a generated pair of 0.5 MB with random weights: by 0.1 and more). What this cannot tell: a projector whose numbers
are wrong but depend on the picture, another model's of the same width for one, moves them as well. Not here: engines
that refuse pictures (`causes`), when an arm ends (`canary`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO

from .asking import Ask, Reply

COLOURS = ("red", "blue")
SIDE = 224  # pixels; what small vision networks take whole
LOOKED_AT = 5  # of the likeliest first tokens
FEWEST = 3  # of them that must be comparable
FAINTEST = -30.0  # a log-probability below it is rounding
EQUAL = 1e-4  # engines repeat themselves to more digits than that


@dataclass(frozen=True)
class Sight:
    """What two pictures changed. `reached` is False where nothing did, None where the engine does not tell.

    `words` are what was answered; `difference` is the largest one of log-probabilities (natural logarithm) of first
    tokens likely for both, None where no two can be compared.
    """

    reached: bool | None
    words: tuple[str, str]
    difference: float | None = None


def asks(timeout_s: float) -> tuple[Ask, Ask]:
    """One token each."""
    first, second = (
        Ask("Which colour is this picture? Answer with one word.", _picture(colour), 1, timeout_s, logprobs=LOOKED_AT)
        for colour in COLOURS
    )
    return first, second


def compared(first: Reply, second: Reply) -> Sight | None:
    """None where one of them was not answered: that is another trouble."""
    if first.status != "ok" or second.status != "ok":
        return None
    words = first.text.strip(), second.text.strip()
    one, other = (
        {word: chance for word, chance in reply.first_tokens if chance > FAINTEST} for reply in (first, second)
    )
    common = one.keys() & other.keys()
    difference = max((abs(one[word] - other[word]) for word in common), default=None)
    if one.keys() != other.keys():
        return Sight(True if one and other else None, words, difference)
    if len(common) < FEWEST or difference is None:
        return Sight(None, words, difference)
    return Sight(difference > EQUAL, words, difference)


@cache
def _picture(colour: str) -> bytes:
    from PIL import Image

    out = BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(out, "JPEG", quality=90)
    return out.getvalue()
