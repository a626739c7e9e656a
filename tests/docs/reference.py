"""The tables of docs/reference.md, made from the code; the prose around them is written by hand.

A table stands between `<!-- table: name -->` and `<!-- end -->`. `rewritten` puts the code's tables there; the test
compares, and `make golden` writes. Here is what the code can say by itself; what only a person can (a remedy, the
meaning of a figure) is written in the document and compared with what a run leaves behind (`test_docs`).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

import click
import dagster as dg
from click.testing import CliRunner
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import llama_assets
from llama_assets import catalog
from llama_assets.assets import benchmark, gguf
from llama_assets.bench.columns import COLUMNS
from llama_assets.cli import main
from llama_assets.definitions import build_defs
from llama_assets.platforms import local
from llama_assets.settings import PREFIX, Settings
from tests.conftest import ROOT

TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """The document with every table as the code says it."""
    return TABLE.sub(lambda found: found[1] + "\n" + TABLES[found[2]]() + "\n" + found[3], text)


def settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append((f"`{field.validation_alias or PREFIX + name.upper()}`", default, _said(field)))
    return table(("variable", "default", "what it is"), rows)


def catalog_keys() -> str:
    shapes: list[tuple[str, type[BaseModel]]] = [
        ("models.<id>", catalog.Model),
        ("engine", catalog.Engine),
        ("gpu", catalog.Gpu),
        ("tenants[]", catalog.TenantEntry),
        ("volumes", catalog.Volumes),
        ("benchmark", catalog.Benchmark),
        ("benchmark.question", catalog.QuestionFiles),
    ]
    rows = []
    for above, shape in shapes:
        for name, field in shape.model_fields.items():
            key = field.alias or name
            if (above, key) in {("models.<id>", "id"), ("benchmark", "question")}:  # the key itself; the next lines
                continue
            if field.default is PydanticUndefined:
                default = "required"
            else:
                default = "" if field.default in (None, ()) else f"`{field.default}`"
            rows.append((f"`{above}.{key}`", default, _said(field)))
    return table(("key", "default", "what it is"), rows)


def _said(field: FieldInfo) -> str:
    choices = [value for part in (field.annotation, *get_args(field.annotation)) for value in _choices(part)]
    allowed = f" ({' or '.join(f'`{value}`' for value in choices)})" if choices else ""
    return f"{field.description or ''}{allowed}"


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def columns() -> str:
    rows = [(f"`{column.name}`", column.kind, column.unit, column.meaning) for column in COLUMNS]
    return table(("column", "kind", "unit or values", "what it is"), rows)


def commands() -> str:
    pages = []
    for name, _ in leaves(main, "llama-assets"):
        asked = CliRunner().invoke(main, [*name.split()[1:], "--help"], prog_name="llama-assets", terminal_width=100)
        pages.append(f"### `{name}`\n\n```\n{asked.output.rstrip()}\n```\n")
    return "\n".join(pages)


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for child in below.values():
        yield from leaves(child, f"{name} {child.name}")


def make() -> str:
    found = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return table(("target", "what it does"), [(f"`make {name}`", says) for name, says in found])


def graph() -> Any:
    return build_defs(catalog.load(), local(Settings())).resolve_asset_graph()


def short(key: dg.AssetKey) -> str:
    """The key with `<m>` for a model's name."""
    return "/".join([*key.path[:-1], "<m>"]) if len(key.path) > 1 else key.path[0]


def assets() -> str:
    found = graph()
    rows: dict[str, tuple[str, ...]] = {}
    for key in found.toposorted_asset_keys:
        node = found.get(key)
        above = sorted({f"`{short(parent)}`" for parent in node.parent_keys})
        pool = ", ".join(f"`{pool}`" for pool in sorted(node.pools or ()))
        group = "" if node.group_name == key.path[0] else f"`{node.group_name}`"
        rows[short(key)] = (f"`{short(key)}`", ", ".join(above), group, pool, node.description or "")
    return table(("asset", "depends on", "group, if another name", "pool", "what it is"), list(rows.values()))


def checks() -> str:
    found = graph()
    says = {"gguf/<m>": gguf.CHECKS, "benchmark/<m>": benchmark.CHECKS}
    rows = {}
    for key in sorted(found.get_all_asset_keys()):
        for check in sorted(found.get(key).check_keys):
            spec = found.get_check_spec(check)
            text = says.get(short(key), {}).get(check.name) or spec.description or ""
            blocking = "blocks what lies downstream" if spec.blocking else ""
            rows[short(key), check.name] = (f"`{short(key)}`", f"`{check.name}`", blocking, text)
    return table(("asset", "check", "", "green when"), list(rows.values()))


def errors() -> str:
    rows = []
    for room, error in exceptions():
        status = str(getattr(error, "exit_status", ""))
        first = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")
        rows.append((f"`{room}`", f"`{error.__name__}`", status, first))
    return table(("room", "error", "exit status", "what happened"), rows)


def exceptions() -> list[tuple[str, type[BaseException]]]:
    """Errors of the package that end a command, by room, each once, in the order of their files."""
    found: dict[type[BaseException], str] = {}
    for module in pkgutil.walk_packages(llama_assets.__path__, "llama_assets."):
        name = module.name.split(".")
        if name[-1] in {"__main__", "worker"} or name[1] == "demo":  # programs, and what stands in for the world
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BaseException) and hasattr(value, "exit_status"):
                found.setdefault(value, value.__module__.split(".")[1])
    return sorted(((room, error) for error, room in found.items()), key=lambda item: (item[0], _place(item[1])))


def _place(error: type[BaseException]) -> tuple[str, int]:
    return error.__module__, inspect.getsourcelines(error)[1]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "catalog": catalog_keys,
    "columns": columns,
    "commands": commands,
    "make": make,
    "assets": assets,
    "checks": checks,
    "errors": errors,
}
