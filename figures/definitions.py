"""What the graph costs whoever loads it: importing, and building it for 200 models, over bare `import dagster`.

Importing only imports: Dagster builds the graph when it needs it, which every `dagster` command and code server does.
Both are measured in fresh interpreters, from start to exit, in turns. `parts` tells where the seconds of one building
go; `bare_graph` is what a graph of that shape takes which is written with Dagster's decorators and does nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from figures.measuring import Goal, How, Program, Ran, in_turns, line, run, scratch, spread
from llama_assets import catalog as catalogs

GOAL = Goal(0.5, "over")
BARE = "import dagster"
IMPORT = "import llama_assets.definitions"
BUILD = "import llama_assets.definitions as graph; graph.defs().get_repository_def()"
BARE_GRAPH = """
import sys
import dagster as dg
names = range(int(sys.argv[1]))
def asset(name):
    return dg.asset(name=f"gguf{name}", deps=[f"hub{name}"])(lambda: None)
def check(name):
    specs = [dg.AssetCheckSpec(what, asset=f"gguf{name}", blocking=True) for what in ("sha256", "header", "projector")]
    return dg.multi_asset_check(name=f"files{name}", specs=specs)(lambda: None)
swap = dg.asset(name="swap", deps=[f"gguf{name}" for name in names])(lambda: None)
arms = dg.multi_asset(name="bench", can_subset=True, specs=[dg.AssetSpec(f"b{name}", deps=["swap"]) for name in names])
external = [dg.AssetSpec(f"hub{name}") for name in names]
assets = [*external, *map(asset, names), swap, arms(lambda: None)]
dg.Definitions(assets=assets, asset_checks=[*map(check, names)]).get_repository_def()
"""
PARTS = """
import json, sys, time
marks = [time.perf_counter()]
mark = lambda: marks.append(time.perf_counter())
import dagster; mark()
import llama_assets.definitions as graph; mark()
from llama_assets.platforms import open_platform
from llama_assets.settings import Settings
platform = open_platform(Settings.read()); catalog = platform.catalog(); mark()
graph.build_defs(catalog, platform).get_repository_def(); mark()
seconds = [round(after - before, 3) for before, after in zip(marks, marks[1:])]
open(sys.argv[1], "w").write(json.dumps(dict(zip(["dagster", "modules", "catalog", "graph"], seconds))))
"""


def measure(how: How) -> Iterator[dict[str, Any]]:
    models = 5 if how.quick else 200
    with scratch() as folder:
        told = folder / "parts.json"
        environment = {"LLAMA_ASSETS_CATALOG": str(many(folder / "models.yaml", models))}

        def python(name: str, code: str, *arguments: str) -> Program:
            return Program(name, (sys.executable, "-c", code, *arguments), environment, folder)

        bare = python("bare graph", BARE_GRAPH, str(models))
        programs = [python("import", IMPORT), python("built", BUILD), python(BARE, BARE), bare]
        runs = {program.name: partial(run, program) for program in programs}
        found: dict[str, list[Ran]] = in_turns(how, runs, warm_up=not how.quick)
        run(python("parts", PARTS, str(told)))
        parts = json.loads(told.read_text())
    seconds = {name: [one.seconds for one in ran] for name, ran in found.items()}
    beside = (BARE, seconds[BARE], f"python -c {BARE!r}")
    yield line("definitions", how, GOAL, "s", seconds["import"], f"python -c {IMPORT!r}", beside, models=models)
    more = {"models": models, "bare_graph": spread(seconds["bare graph"]), "parts": parts}
    yield line("definitions_built", how, GOAL, "s", seconds["built"], f"python -c {BUILD!r}", beside, **more)


def many(path: Path, count: int) -> Path:
    """A catalog like the packaged one, with `count` models."""
    catalog = yaml.safe_load(catalogs.PACKAGED.read_text())
    model = next(iter(catalog["models"].values()))
    catalog["models"] = {f"m{number}": {**model, "repo": f"org/m{number}-GGUF"} for number in range(count)}
    catalog["benchmark"]["incumbent"] = "m0"
    question = catalog["benchmark"]["question"]
    for key in ("prompt", "schema"):
        question[key] = str(catalogs.PACKAGED.parent / question[key])
    path.write_text(yaml.safe_dump(catalog, sort_keys=False))
    return path
