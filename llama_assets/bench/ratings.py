"""What a person thinks of photos: favourites and stars, read from `ratings.csv`.

Here: the value that every source of ratings gives, and the one file that holds them. An empty cell is "not said", never
"no". Not here: an Immich's ratings (`sources`), what they say about a model (`verdict`). No model ever sees a rating.

RatingsError
|- UnreadableRatings    the file cannot be read as UTF-8 CSV
|- WrongColumns         its header is not `photo` with `favourite` or `stars` or both
|- WrongCell            a cell holds what it may not
'- RatedTwice           a photo has two lines
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .heading import separator

RATINGS_FILE = "ratings.csv"
COLUMNS = ("photo", "favourite", "stars")
YES, NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
STARS = frozenset("12345")


class RatingsError(ValueError):
    """Ratings cannot be used."""

    exit_status = 2


class UnreadableRatings(RatingsError):
    """The file cannot be read as UTF-8 CSV."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; ratings are a CSV file in UTF-8 with the header {','.join(COLUMNS)}"


class WrongColumns(RatingsError):
    """The first line names other columns."""

    def __init__(self, path: Path, found: tuple[str, ...]) -> None:
        self.path, self.found = path, found
        super().__init__(path, found)

    def __str__(self) -> str:
        told = ",".join(self.found) or "nothing"
        return f"{self.path}: its first line is {told!r}; it has to name photo, and favourite or stars or both"


class WrongCell(RatingsError):
    """A cell holds what it may not."""

    def __init__(self, path: Path, line: int, column: str, value: str, allowed: str) -> None:
        self.path, self.line, self.column, self.value, self.allowed = path, line, column, value, allowed
        super().__init__(path, line, column, value, allowed)

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}, column {self.column}: {self.value!r}; it may be {self.allowed}"


class RatedTwice(RatingsError):
    """A photo has two lines."""

    def __init__(self, path: Path, line: int, photo: str, first: int) -> None:
        self.path, self.line, self.photo, self.first = path, line, photo, first
        super().__init__(path, line, photo, first)

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}, column photo: {self.photo!r} has line {self.first} too; remove one"


@dataclass(frozen=True)
class Rating:
    """What a person thinks of one photo. None is "not said". `stars` are 1 to 5."""

    favourite: bool | None = None
    stars: int | None = None


def read_ratings(path: Path) -> dict[str, Rating]:
    """Ratings by photo, in the file's order, of a CSV with the header `photo,favourite,stars`.

    `photo` is the name that the rows use: the path below the folder, with `/`. `favourite` is true or false (or 1 and
    0, yes and no), `stars` 1 to 5; an empty cell, or a column that is missing, is "not said". Further columns, a
    byte order mark and semicolons or tabs for commas, as spreadsheets write them, do not matter.

    Raises:
        UnreadableRatings, WrongColumns, WrongCell, RatedTwice: naming file, line, column, value and what is allowed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            return _ratings(path, csv.reader(file, strict=True, delimiter=separator(first)))
    except OSError as error:
        raise UnreadableRatings(path, error.strerror or type(error).__name__) from None
    except UnicodeDecodeError as error:
        raise UnreadableRatings(path, f"byte {error.start} is not UTF-8") from None
    except csv.Error as error:
        raise UnreadableRatings(path, f"is not CSV: {error}") from None


class _Lines(Protocol):
    """What csv.reader gives: cells, and where they ended."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


def _ratings(path: Path, lines: _Lines) -> dict[str, Rating]:
    header = tuple(name.strip().lower() for name in next(iter(lines), []))
    known = [name for name in header if name in COLUMNS]
    if "photo" not in known or len(known) < 2 or len(set(known)) < len(known):
        raise WrongColumns(path, header)
    found: dict[str, Rating] = {}
    first: dict[str, int] = {}
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        line = lines.line_num
        if len(cells) > len(header):
            extra = cells[len(header)]
            raise WrongCell(path, line, f"number {len(header) + 1}", extra, "left out: the first line names fewer")
        row = dict(zip(header, cells, strict=False))
        photo = row["photo"].strip() if header.index("photo") < len(cells) else ""
        if not photo:
            raise WrongCell(path, line, "photo", "", "the photo's name as the rows have it")
        if photo in found:
            raise RatedTwice(path, line, photo, first[photo])
        favourite, stars = row.get("favourite", "").strip().lower(), row.get("stars", "").strip()
        if favourite and favourite not in YES | NO:
            raise WrongCell(path, line, "favourite", row["favourite"], "true, false or empty")
        if stars and stars not in STARS:
            raise WrongCell(path, line, "stars", row["stars"], "1, 2, 3, 4, 5 or empty")
        found[photo] = Rating(favourite in YES if favourite else None, int(stars) if stars else None)
        first[photo] = line
    return found
