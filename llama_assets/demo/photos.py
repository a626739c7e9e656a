"""Drawn photos: skies, hills, suns, houses, sails, as small JPEG and PNG files, some turned by their EXIF as phones do.

    python -m llama_assets.demo.photos FOLDER --count 40

Here: enough variety that models, thumbnails and ranks have something to tell apart, from a seed, in a second. Not here:
which of them are asked (`bench.photos`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

Pen = ImageDraw.ImageDraw
Colour = tuple[int, int, int]

WIDE, TALL = (320, 240), (240, 320)
ORIENTATION = 0x0112  # EXIF: 6 is "turn by 90 degrees to the right to see it upright"
# Sky above, sky at the horizon, ground: one row a mood.
MOODS: dict[str, tuple[Colour, Colour, Colour]] = {
    "morning": ((246, 178, 122), (255, 226, 180), (86, 104, 84)),
    "noon": ((64, 132, 214), (176, 214, 246), (96, 142, 72)),
    "evening": ((58, 44, 104), (238, 116, 78), (44, 40, 58)),
    "night": ((8, 12, 34), (32, 46, 92), (12, 18, 28)),
    "grey": ((142, 150, 158), (200, 204, 208), (104, 108, 102)),
}


def draw_photos(folder: Path, count: int = 36, seed: int = 1) -> int:
    """Fill the folder with `count` photos named after what they show; returns how many were drawn now.

    Photos that are there are kept, so a second call with the same arguments draws none.
    """
    drawn = 0
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")
        mood = chance.choice(list(MOODS))
        scene = list(SCENES)[number % len(SCENES)]
        form = "png" if number % 9 == 4 else "jpg"
        target = folder / ("holiday" if number % 3 else "town") / f"{number + 1:03d}-{scene}-{mood}.{form}"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            written = target.with_name(target.name + ".tmp")
            _save(_draw(chance, SCENES[scene], mood, TALL if number % 4 == 3 else WIDE), written, form, number % 7 == 2)
            written.replace(target)
            drawn += 1
    return drawn


def _save(image: Image.Image, path: Path, form: str, turned: bool) -> None:
    if form == "png":
        image.save(path, "PNG")
        return
    exif = Image.Exif()
    if turned:  # stored lying on its side, as a phone held upright stores it
        exif[ORIENTATION] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(path, "JPEG", quality=88, exif=exif)


def _draw(chance: random.Random, scene: Callable[[Pen, random.Random, int, int], None], mood: str, size: tuple[int, int]
          ) -> Image.Image:  # fmt: skip
    above, below, ground = MOODS[mood]
    width, height = size
    horizon = int(height * chance.uniform(0.5, 0.7))
    # A gradient of two pixels, enlarged smoothly, is a sky.
    sky = Image.new("RGB", (1, 2))
    sky.putdata([above, below])
    image = Image.new("RGB", size, ground)
    image.paste(sky.resize((width, horizon), Image.Resampling.BILINEAR), (0, 0))
    pen = ImageDraw.Draw(image)
    if mood == "night":
        for _ in range(60):
            pen.point((chance.randrange(width), chance.randrange(horizon)), fill=(220, 224, 240))
    if mood != "grey":
        radius = chance.randint(10, 24)
        x, y = chance.randint(radius, width - radius), chance.randint(radius, horizon)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_mix(below, (255, 248, 214), 0.7))
    for depth in (0.35, 0.6, 0.85):
        _hills(pen, chance, width, height, horizon, _mix(below, ground, depth))
    scene(pen, chance, width, horizon)
    return image


def _hills(pen: Pen, chance: random.Random, width: int, height: int, horizon: int, colour: Colour) -> None:
    y = horizon - chance.randint(4, 26)
    line = []
    for x in range(0, width + 20, 20):
        line.append((x, y))
        y = min(max(y + chance.randint(-9, 9), horizon - 46), horizon)
    pen.polygon([(0, height), *line, (width + 20, height)], fill=colour)


def _houses(pen: Pen, chance: random.Random, width: int, horizon: int) -> None:
    x = chance.randint(-10, 20)
    while x < width:
        wide, tall = chance.randint(22, 46), chance.randint(30, 92)
        wall = _mix((60, 56, 66), (206, 168, 132), chance.random())
        pen.rectangle((x, horizon + 24 - tall, x + wide, horizon + 24), fill=wall)
        for row in range(horizon + 32 - tall, horizon + 14, 14):
            for column in range(x + 5, x + wide - 6, 11):
                lit = chance.random() < 0.4
                pen.rectangle(
                    (column, row, column + 5, row + 7), fill=(250, 220, 140) if lit else _mix(wall, (0, 0, 0), 0.4)
                )
        x += wide + chance.randint(2, 14)


def _sea(pen: Pen, chance: random.Random, width: int, horizon: int) -> None:
    pen.rectangle((0, horizon, width, horizon * 3), fill=(38, 92, 128))
    for _ in range(40):
        x, y = chance.randrange(width), chance.randrange(horizon + 4, horizon + 90)
        pen.line((x, y, x + chance.randint(6, 26), y), fill=(120, 170, 196))
    for _ in range(chance.randint(1, 4)):
        x, y, tall = chance.randint(20, width - 40), horizon + chance.randint(6, 40), chance.randint(18, 42)
        pen.polygon([(x, y), (x + 14, y), (x + 14, y - tall)], fill=(244, 240, 232))
        pen.polygon([(x - 6, y + 2), (x + 24, y + 2), (x + 18, y + 8), (x, y + 8)], fill=(92, 50, 40))


def _trees(pen: Pen, chance: random.Random, width: int, horizon: int) -> None:
    for _ in range(chance.randint(8, 18)):
        x, foot, tall = chance.randrange(width), horizon + chance.randint(6, 60), chance.randint(24, 66)
        green = _mix((22, 56, 38), (110, 132, 60), chance.random())
        pen.rectangle((x - 2, foot - 8, x + 2, foot), fill=(70, 50, 40))
        for part in range(3):
            top, half = foot - tall + part * tall // 5, 5 + part * 4
            pen.polygon([(x, top), (x - half, top + tall // 2), (x + half, top + tall // 2)], fill=green)


def _tower(pen: Pen, chance: random.Random, width: int, horizon: int) -> None:
    x, half, top = chance.randint(width // 4, width * 3 // 4), chance.randint(9, 16), horizon - chance.randint(60, 110)
    foot = horizon + 30
    for stripe in range(6):
        upper, lower = top + (foot - top) * stripe // 6, top + (foot - top) * (stripe + 1) // 6
        pen.rectangle((x - half, upper, x + half, lower), fill=(206, 58, 48) if stripe % 2 else (244, 240, 234))
    pen.rectangle((x - half - 3, top - 4, x + half + 3, top), fill=(50, 48, 52))
    pen.polygon([(x - half, top - 4), (x, top - 22), (x + half, top - 4)], fill=(120, 30, 34))


def _balloons(pen: Pen, chance: random.Random, width: int, horizon: int) -> None:
    for _ in range(chance.randint(2, 6)):
        size = chance.randint(12, 30)
        x, y = chance.randint(size, width - size), chance.randint(size, horizon - 20)
        colour = tuple(chance.randint(60, 240) for _ in range(3))
        pen.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        pen.ellipse((x - size // 3, y - size, x + size // 3, y + size), fill=tuple(min(255, c + 30) for c in colour))
        pen.line((x - size // 2, y + size, x - 3, y + size + 12), fill=(60, 50, 46))
        pen.line((x + size // 2, y + size, x + 3, y + size + 12), fill=(60, 50, 46))
        pen.rectangle((x - 4, y + size + 12, x + 4, y + size + 18), fill=(104, 74, 50))


def _road(pen: Pen, chance: random.Random, width: int, horizon: int) -> None:
    middle = chance.randint(width // 3, width * 2 // 3)
    pen.polygon(
        [(middle - 3, horizon), (middle + 3, horizon), (width, horizon * 2), (0, horizon * 2)], fill=(84, 84, 90)
    )
    for step in range(1, 9):
        y = horizon + step * step * 3
        far, near = step // 2, step
        dash = [(middle - far, y), (middle + far, y), (middle + near, y + 3 * step), (middle - near, y + 3 * step)]
        pen.polygon(dash, fill=(236, 226, 186))


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    first, second, third = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return first, second, third


SCENES: dict[str, Callable[[Pen, random.Random, int, int], None]] = {
    "houses": _houses,
    "sails": _sea,
    "forest": _trees,
    "lighthouse": _tower,
    "balloons": _balloons,
    "road": _road,
}


def main() -> None:
    """Draw into a folder, for a cluster's claim."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m llama_assets.demo.photos", description="Draw photos.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=36, help="how many there shall be (default %(default)s)")
    asked = parser.parse_args()
    drawn = draw_photos(asked.folder, asked.count)
    print(f"{asked.count} photos in {asked.folder}, {drawn} drawn now")


if __name__ == "__main__":
    main()
