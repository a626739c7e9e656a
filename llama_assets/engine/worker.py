"""llama-server for machines that have none: xllamacpp in a process of its own, started with the same arguments.

    python -m llama_assets.engine.worker --model F --mmproj F --port P ...      serves until SIGTERM
    python -m llama_assets.engine.worker --exec PROGRAM ARGUMENT...             becomes PROGRAM

`--with-parent PID` (or `now`: whoever it is), before everything else, ends the process with its parent, however that
one ends: the kernel sends SIGKILL (prctl PR_SET_PDEATHSIG). `--exec` gives that to a program that cannot ask for it,
llama-server itself: the setting survives exec, and unlike `preexec_fn` it runs no Python between fork and exec, where
another thread's locks would never be freed. The kernel watches the *thread* that forked: fork from one that lives as
long as the child should.

Here: arguments to xllamacpp's parameters, nothing is ignored (exit status 2). Not here: anything else of the package;
the file is run by its path as well, so that a load does not wait for imports.
A separate process because xllamacpp holds Python's lock for a whole load, and a failed assertion ends the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

WRONG_USE, FAILED = 2, 1
LAST_LINES_S = 0.05
PR_SET_PDEATHSIG = 1  # linux/prctl.h

Setter = Callable[[Any, str], object]


def main(words: Sequence[str]) -> int:
    """Serve until a signal ends the process, or become another program. Returns the exit status of a failure."""
    left = list(words)
    if left[:1] == ["--with-parent"] and len(left) > 1:
        _end_with_parent(os.getppid() if left[1] == "now" else int(left[1]))
        del left[:2]
    if left[:1] == ["--exec"] and len(left) > 1:
        try:
            os.execvp(left[1], left[1:])
        except OSError as error:
            return _complain(f"cannot run {left[1]}: {error.strerror}", WRONG_USE)
    return _serve(left)


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked to watch it
        os.kill(os.getpid(), signal.SIGKILL)


def _serve(words: Sequence[str]) -> int:
    try:
        import xllamacpp
    except ImportError:
        return _complain("xllamacpp is not installed; pip install llama-assets[local]", WRONG_USE)
    parameters = xllamacpp.CommonParams()
    parameters.ui = False
    try:
        for flag, value in _pairs(words):
            SETTERS[flag](parameters, value)
    except _Wrong as wrong:
        return _complain(str(wrong), WRONG_USE)
    if not parameters.model.path:
        return _complain("--model is missing", WRONG_USE)
    # The kernel's own way to end on these: Python's handlers would wait for its lock, which a load holds throughout.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        return _complain(f"{error} (the reason is above)", FAILED)
    for number in (signal.SIGTERM, signal.SIGINT):  # nothing holds the lock any more
        signal.signal(number, _end)
    print(f"worker: listening on {server.listening_address}", file=sys.stderr, flush=True)
    while True:
        signal.pause()


def _end(number: int, _frame: FrameType | None) -> None:
    """End by the signal, but let llama.cpp's log thread write first: it lost the last answer's timings now and then."""
    time.sleep(LAST_LINES_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _complain(sentence: str, status: int) -> int:
    print(f"worker: {sentence}", file=sys.stderr, flush=True)
    return status


class _Wrong(Exception):
    pass


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(flag, value) one by one; flags without a value have an empty one."""
    left = list(words)
    while left:
        flag = left.pop(0)
        if flag not in SETTERS:
            hint = "; put llama.cpp's llama-server on PATH for arguments beyond the usual"
            raise _Wrong(f"xllamacpp cannot be told {flag!r}{hint}")
        if flag in ALONE:
            yield flag, ""
        elif left:
            yield flag, left.pop(0)
        else:
            raise _Wrong(f"{flag} needs a value")


def _number(name: str) -> Setter:
    def put(parameters: Any, value: str) -> None:
        try:
            setattr(parameters, name, int(value))
        except (ValueError, OverflowError):
            raise _Wrong(f"{value!r} is no whole number that {name} can be") from None

    return put


def _fixed(name: str, value: object) -> Setter:
    return lambda parameters, _: setattr(parameters, name, value)


def _word(name: str, words: dict[str, object]) -> Setter:
    def put(parameters: Any, value: str) -> None:
        if value not in words:
            raise _Wrong(f"{value!r} is not allowed for {name}; allowed: {', '.join(words)}")
        setattr(parameters, name, words[value])

    return put


def _enumerated(name: str, kind: str, words: dict[str, str]) -> Setter:
    """Words that stand for members of one of xllamacpp's enumerations."""

    def put(parameters: Any, value: str) -> None:
        import xllamacpp

        members = {word: getattr(getattr(xllamacpp, kind), member) for word, member in words.items()}
        _word(name, members)(parameters, value)

    return put


def _gpu_layers(parameters: Any, value: str) -> None:
    words = {"auto": -1, "all": -2}  # as llama.cpp's argument parser has them
    if value in words:
        parameters.n_gpu_layers = words[value]
    else:
        _number("n_gpu_layers")(parameters, value)


def _threads(name: str) -> Setter:
    return lambda parameters, value: _number("n_threads")(getattr(parameters, name), value)


def _both_threads(parameters: Any, value: str) -> None:
    for name in ("cpuparams", "cpuparams_batch"):
        _threads(name)(parameters, value)


def _model(parameters: Any, value: str) -> None:
    parameters.model.path = value


def _mmproj(parameters: Any, value: str) -> None:
    parameters.mmproj.path = value


ON_OFF: dict[str, object] = {"on": True, "off": False}
FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
CACHE = {kind: f"GGML_TYPE_{kind.upper()}" for kind in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")}
REASONING = {"none": "NONE", "auto": "AUTO", "deepseek": "DEEPSEEK", "deepseek-legacy": "DEEPSEEK_LEGACY"}

# Every spelling that is honoured, and what it does.
SETTERS: dict[str, Setter] = {
    **dict.fromkeys(("-m", "--model"), _model),
    **dict.fromkeys(("-mm", "--mmproj"), _mmproj),
    **dict.fromkeys(("-c", "--ctx-size"), _number("n_ctx")),
    **dict.fromkeys(("-np", "--parallel"), _number("n_parallel")),
    **dict.fromkeys(("-b", "--batch-size"), _number("n_batch")),
    **dict.fromkeys(("-ub", "--ubatch-size"), _number("n_ubatch")),
    **dict.fromkeys(("-n", "--predict", "--n-predict"), _number("n_predict")),
    **dict.fromkeys(("-t", "--threads"), _both_threads),
    **dict.fromkeys(("-tb", "--threads-batch"), _threads("cpuparams_batch")),
    **dict.fromkeys(("-ngl", "--gpu-layers", "--n-gpu-layers"), _gpu_layers),
    **dict.fromkeys(("-fit", "--fit"), _word("fit_params", ON_OFF)),
    **dict.fromkeys(
        ("-fa", "--flash-attn"),
        _enumerated(
            "flash_attn_type",
            "llama_flash_attn_type",
            {word: f"LLAMA_FLASH_ATTN_TYPE_{kind}" for word, kind in FLASH.items()},
        ),
    ),
    **dict.fromkeys(("-ctk", "--cache-type-k"), _enumerated("cache_type_k", "ggml_type", CACHE)),
    **dict.fromkeys(("-ctv", "--cache-type-v"), _enumerated("cache_type_v", "ggml_type", CACHE)),
    **dict.fromkeys(("-cram", "--cache-ram"), _number("cache_ram_mib")),
    "--image-min-tokens": _number("image_min_tokens"),
    "--image-max-tokens": _number("image_max_tokens"),
    "--threads-http": _number("n_threads_http"),
    "--sse-ping-interval": _number("sse_ping_interval"),
    "--sleep-idle-seconds": _number("sleep_idle_seconds"),
    "--reasoning-format": _enumerated(
        "reasoning_format",
        "common_reasoning_format",
        {word: f"COMMON_REASONING_FORMAT_{kind}" for word, kind in REASONING.items()},
    ),
    "--port": _number("port"),
    "--host": lambda parameters, value: setattr(parameters, "hostnames", [value]),
    **dict.fromkeys(("-a", "--alias"), lambda parameters, value: setattr(parameters, "model_alias", {value})),
    "--api-key": lambda parameters, value: setattr(parameters, "api_keys", [value]),
    **dict.fromkeys(("-lv", "--verbosity", "--log-verbosity"), _number("verbosity")),
    "--metrics": _fixed("endpoint_metrics", True),
    "--props": _fixed("endpoint_props", True),
    "--slots": _fixed("endpoint_slots", True),
    "--no-slots": _fixed("endpoint_slots", False),
    "--offline": _fixed("offline", True),
    "--warmup": _fixed("warmup", True),
    "--no-warmup": _fixed("warmup", False),
    "--jinja": _fixed("use_jinja", True),
    "--no-webui": _fixed("ui", False),
    "--no-ui": _fixed("ui", False),
    "--swa-full": _fixed("swa_full", True),
    "--no-mmproj-offload": _fixed("mmproj_use_gpu", False),
}
ALONE = frozenset({
    "--metrics", "--props", "--slots", "--no-slots", "--offline", "--warmup", "--no-warmup", "--jinja", "--no-webui",
    "--no-ui", "--swa-full", "--no-mmproj-offload",
})  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
