"""What llama.cpp's own router is told: presets.ini, made from the same flags as llama-swap's commands.

Here: text only. Not here: the flags (`config.py`), the router's own arguments (`deployment_body.py`).
A preset's keys are llama-server's long flags without their dashes; the router adds host, port and name itself.
Read and run: llama.cpp b11669. A value is cut at `#` or `;`, quoted or not, and nothing says so: refused here.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_assets import catalog
from llama_assets.engine.config import MADE_BY, Served, flags
from llama_assets.engine.errors import NotServable


def render_presets(served: Sequence[Served], engine: catalog.Engine) -> str:
    """presets.ini for these models, in their order. Equal input gives equal text.

    Raises:
        NotServable: an argument cannot be written as a preset.
    """
    return "\n".join([f"{MADE_BY}version = 1\n", *(_section(one, engine) for one in served)])


def _section(served: Served, engine: catalog.Engine) -> str:
    model = served.model
    idle = {"--sleep-idle-seconds": (str(engine.idle_unload_seconds),)} if engine.idle_unload_seconds else {}
    lines = [f"[{model.id}]"]
    if model.aliases:
        lines.append(f"alias = {','.join(model.aliases)}")
    for flag, values in {**idle, **flags(served, engine)}.items():
        lines.append(f"{_key(model.id, flag)} = {_value(model.id, flag, values)}")
    return "\n".join(lines) + "\n"


def _key(model: str, flag: str) -> str:
    name = flag.lstrip("-")
    if not name or "=" in name:
        raise NotServable(model, f"{flag!r} cannot be a key of presets.ini; write flag and value as two words")
    return name


def _value(model: str, flag: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise NotServable(model, f"{flag} has {len(values)} values, and presets.ini holds one; use kind llama-swap")
    value = values[0] if values else "true"
    if set(value) & set("#;"):
        raise NotServable(model, f"{flag} {value!r}: presets.ini ends a value at # and ;; use kind llama-swap")
    return value
