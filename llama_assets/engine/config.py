"""What an engine is told: llama-server's arguments for a model, and llama-swap's config.yaml for all of them.

Here: text and lists, made from the catalog and verified fingerprints; the same input gives the same text. Not here:
starting anything (`process.py`), applying it to a cluster (`deployment.py`), what was downloaded (`store`).
llama-swap's keys: config-schema.json in its repository. llama-server's arguments: only those that llama.cpp's server
and the xllamacpp worker both know (`worker.py` has the worker's list).
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from llama_assets import catalog
from llama_assets.engine.errors import NotServable

MADE_BY = "# Made by llama-assets from its catalog and verified files; changes made here are overwritten.\n"
PORT = "${PORT}"  # llama-swap puts the port it chose here
LEAST_HEALTH_TIMEOUT_S = 15  # llama-swap raises anything lower to this

# Written by us for every model; llama-swap finds its server by them.
OURS = ("--host", "--port", "--model", "--mmproj")
# Short for what is written below, so that `-c 4096` in the catalog replaces `--ctx-size` and does not stand beside it.
LONG = {
    "-m": "--model", "-mm": "--mmproj", "-c": "--ctx-size", "-ngl": "--n-gpu-layers", "--gpu-layers": "--n-gpu-layers",
    "-fit": "--fit", "-np": "--parallel", "-cram": "--cache-ram", "-t": "--threads",
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    """One model with the verified files it is served from. Paths are as the engine sees them."""

    model: catalog.Model
    fingerprint: str
    model_file: Path | PurePosixPath
    mmproj_file: Path | PurePosixPath

    @property
    def is_candidate(self) -> bool:
        """It is there to be measured under its arm's name, `m@...`, which no model of the catalog can have."""
        return "@" in self.model.id


def command(
    served: Served, engine: catalog.Engine, port: str = PORT, server: Sequence[str] = ("llama-server",)
) -> list[str]:
    """The command line that serves one model, behind `server`.

    Raises:
        NotServable: as `flags`, or llama-swap would expand a word.
    """
    listens = {"--host": ("127.0.0.1",), "--port": (port,)}
    merged = {**listens, **flags(served, engine)}
    line = [*server, *(word for flag, values in merged.items() for word in (flag, *values))]
    for word in line:
        if "${" in word and word != port:
            raise NotServable(served.model.id, f"{word!r} holds a ${{...}} that llama-swap would expand")
    return line


def flags(served: Served, engine: catalog.Engine) -> dict[str, tuple[str, ...]]:
    """llama-server's arguments for one model, but for where it listens: flag -> values. Its own win over the engine's,
    both over ours.

    Raises:
        NotServable: an argument is none, is written by us, or cannot be written down.
    """  # fmt: skip
    ours = {
        "--model": (str(served.model_file),),
        "--mmproj": (str(served.mmproj_file),),
        "--ctx-size": (str(served.model.context),),
        "--n-gpu-layers": (str(engine.gpu_layers),),
        "--fit": ("off",),  # a model that does not fit fails, instead of answering slowly from the CPU
        "--parallel": ("1",),  # one request has the whole context
        "--cache-ram": ("0",),  # llama.cpp would keep prompts in 8 GiB of memory
        "--threads-http": ("32",),  # a kept connection holds a thread; with too few, requests wait five seconds
        "--metrics": (),
        "--offline": (),  # verified files only
    }
    own = [
        *_flags(served.model.id, "engine.arguments", engine.arguments),
        *_flags(served.model.id, "arguments", served.model.arguments),
    ]
    merged = {**ours, **dict(own)}
    for word in (word for flag, values in merged.items() for word in (flag, *values)):
        if "\n" in word:
            raise NotServable(served.model.id, f"{word!r} holds a line break")
    return merged


def render(
    served: Sequence[Served],
    engine: catalog.Engine,
    server: Sequence[str] = ("llama-server",),
    start_port: int | None = None,
    key_variable: str | None = None,
) -> str:
    """llama-swap's config.yaml for these models, in their order. Equal input gives equal text.

    `start_port` is the first port of the models' servers; llama-swap's own default if None. `key_variable` names the
    environment variable that holds the key it demands of its clients; llama-swap reads it, the text does not hold it.

    Raises:
        NotServable: as `command`.
    """
    config: dict[str, object] = {
        "healthCheckTimeout": max(engine.load_timeout_seconds, LEAST_HEALTH_TIMEOUT_S),
        "captureBuffer": 0,  # llama-swap would keep the last requests, photos and all, and show them in its UI
    }
    if key_variable is not None:
        config["apiKeys"] = [_Quoted(f"${{env.{key_variable}}}")]  # put in before YAML is read: a key may hold a colon
    if start_port is not None:
        config["startPort"] = start_port
    config["models"] = {one.model.id: _model(one, engine, server) for one in served}
    text = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return MADE_BY + text


def config_hash(text: str) -> str:
    """sha256 of a config's text, in hex: equal hashes need no write and no restart."""
    return hashlib.sha256(text.encode()).hexdigest()


def _model(served: Served, engine: catalog.Engine, server: Sequence[str]) -> dict[str, object]:
    model = served.model
    words = command(served, engine, server=server)
    weights, projector = model.quant or model.file, model.mmproj or model.mmproj_file
    entry: dict[str, object] = {
        "cmd": _Lines(_one_flag_a_line(words, len(server))),
        # By number: its default, localhost, is unknown in images without /etc/hosts, and then every load times out.
        "proxy": f"http://127.0.0.1:{PORT}",
        "checkEndpoint": "/health",
        "ttl": engine.idle_unload_seconds,
        "name": f"{model.repo.split('/')[1]} {weights}"[:128],
        "description": f"{model.repo} {weights}, projector {projector}"[:1024],
        "metadata": {"fingerprint": served.fingerprint, "repo": model.repo, "revision": model.revision},
        "capabilities": {"in": ["text", "image"], "out": ["text"], "context": model.context},
    }
    if model.aliases:
        entry["aliases"] = list(model.aliases)
    return entry


def _flags(model: str, where: str, words: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Arguments as (flag, values); a word that begins with a dash and is no number is a flag."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for word in words:
        if re.match(r"-[^\d.]", word):
            flag = LONG.get(word, word)
            if flag in OURS:
                raise NotServable(model, f"`{word}` in {where} is written by llama-assets; take it out")
            found.append((flag, ()))
        elif found:
            found[-1] = (found[-1][0], (*found[-1][1], word))
        else:
            raise NotServable(model, f"{where} begins with {word!r}, and not with an argument such as --flash-attn")
    return found


def _one_flag_a_line(words: Sequence[str], program: int) -> str:
    """The command as llama-swap splits it (POSIX shell words), so that a diff of two configs shows what changed."""
    lines = [shlex.join(words[:program])]
    for word in words[program:]:
        quoted = word if word == PORT else shlex.quote(word)
        if word.startswith("--") or re.match(r"-[^\d.]", word):
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return "\n".join(lines) + "\n"


class _Lines(str):
    """Text that YAML shows line by line."""


class _Quoted(str):
    """Text in double quotes."""


class _Dumper(yaml.SafeDumper):
    pass


def _as_block(dumper: yaml.SafeDumper, text: _Lines) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


def _in_quotes(dumper: yaml.SafeDumper, text: _Quoted) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Dumper.add_representer(_Lines, _as_block)
_Dumper.add_representer(_Quoted, _in_quotes)
