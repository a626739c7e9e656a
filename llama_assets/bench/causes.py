"""The likely cause behind an arm that cannot work, from what its engine says and from what is known of engines.

Here: sentences of llama.cpp and what they mean, the builds that architectures need, and answers that betray a model
which sees no photo. Each is a guess, worded as one where it is not sure. Not here: when an arm ends (`canary`,
`turns`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from .failures import garbage

Cause = Literal["engine_too_old", "projector", "offload", "memory", "files", "broken", "thinking", "schema", "length"]

# The first llama.cpp build that computes an architecture right, and who says so. Older ones refuse to load it or,
# worse, answer fluent garbage without an error. `general.architecture` -> (build, source).
NEEDS_BUILD: dict[str, tuple[int, str]] = {
    "qwen3vl": (6887, "llama.cpp#16780"),
    "qwen3vlmoe": (6887, "llama.cpp#16780"),
    "qwen3next": (10450, "llama.cpp discussion 27164"),
    "qwen35": (10450, "llama.cpp discussion 27164"),
    "qwen35moe": (10450, "llama.cpp discussion 27164"),
}

# What a server wrote before it ended, and what that means; the first that is found.
LOAD_CAUSES: tuple[tuple[str, Cause, str], ...] = (
    (r"unknown (model )?architecture", "engine_too_old", "its engine does not know this architecture: it is too old"),
    (r"unknown projector type", "engine_too_old", "its engine does not know this kind of projector: it is too old"),
    (r"mismatch between text model", "projector", "the projector belongs to another model"),
    (
        r"out of memory|cudaMalloc failed|failed to allocate|unable to allocate|ErrorOutOfDeviceMemory",
        "memory",
        "the card has not enough free memory for it",
    ),
    (
        r"invalid magic|tensor '[^']+' data is not within|file bounds|corrupted or incomplete",
        "files",
        "its file is damaged",
    ),
)
# What llama.cpp says of the GPU while it loads. The first one at INFO, so newer builds want `--log-verbosity 4` for it;
# a build without any GPU code says neither. /props, /slots and /metrics say nothing of it.
GPU = re.compile(
    r"offloaded \d+/\d+ layers to GPU|no usable GPU found|failed to initialize (?:CUDA|Vulkan)[^\n]{0,80}",
    re.IGNORECASE,
)
NO_PROJECTOR = "image input is not supported"
# How models say that no image reached them. A guess by words.
NO_IMAGE = re.compile(
    r"\b(no|not|don['’]?t|cannot|can['’]?t|unable to|haven['’]?t|without an?)\b[^.]{0,30}"
    r"\b(see|view|access|received?|provided?|given|attached|upload(ed)?|image|photo|picture)\b[^.]{0,20}"
    r"\b(image|photo|picture|provided|attached|given|uploaded)\b"
    r"|(没有|未)(看到|提供|收到)[^。]{0,6}(图|照片)",
    re.IGNORECASE,
)


def build_number(build: str | None) -> int | None:
    """11669 of `b11669-Debian`; None where the engine names no number."""
    found = re.match(r"b?(\d{3,6})\b", build or "")
    return int(found[1]) if found and int(found[1]) else None


def too_old(architecture: str | None, build: str | None) -> str | None:
    """A sentence where the build is known to be too old for the architecture; None where that is not known."""
    needed, number = NEEDS_BUILD.get(architecture or ""), build_number(build)
    if needed is None or number is None or number >= needed[0]:
        return None
    return f"its engine is too old: architecture {architecture} needs b{needed[0]} ({needed[1]}), this is b{number}"


def of_load(error: str) -> tuple[Cause, str] | None:
    """What a failed load is likely due to, from the server's last words."""
    return next(((cause, words) for sign, cause, words in LOAD_CAUSES if re.search(sign, error, re.IGNORECASE)), None)


def of_gpu(log: str) -> str | None:
    """What a server's log says of the GPU, the last time it does; None where it says nothing."""
    return found[-1].strip() if (found := GPU.findall(log)) else None


def of_error(error: str | None) -> tuple[Cause, str] | None:
    """What an answer that failed is likely due to."""
    if error and NO_PROJECTOR in error:
        return "projector", "it is served without a projector that its engine can use: no photo reaches it"
    return None


def of_answer(text: str) -> tuple[Cause, str] | None:
    """Whether an answer shows a broken quant or a model that sees no photo; looks into the strings of a JSON answer."""
    for said in _strings(text):
        if why := garbage(said):
            return "broken", f"it answers garbage ({why}): a broken quant, or an engine too old for it"
        if len(said) <= 300 and (found := NO_IMAGE.search(said)):
            return "projector", f"it says that it sees no photo ({found.group()!r}): a wrong projector, or none"
    return None


def _strings(text: str) -> list[str]:
    try:
        return _inside(json.loads(text))
    except (ValueError, RecursionError):
        return [text]


def _inside(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in below for text in _inside(one)]
