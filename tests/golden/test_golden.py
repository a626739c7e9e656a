"""What others rely on, as text: the graph, the commands, the configuration. The same code writes and compares."""

from __future__ import annotations

from pathlib import PurePosixPath

import click
from click.testing import CliRunner

from llama_assets.catalog import load
from llama_assets.cli import main
from llama_assets.definitions import build_defs
from llama_assets.engine import Served, render
from llama_assets.platforms import local
from llama_assets.settings import Settings


def test_asset_keys_deps_groups_pools_and_checks(golden):
    defs = build_defs(load(), local(Settings()))
    graph = defs.resolve_asset_graph()
    lines = []
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        lines.append(
            f"{key.to_user_string()}  group={node.group_name} pools={','.join(sorted(node.pools or ())) or '-'}"
        )
        lines += [f"    <- {parent.to_user_string()}" for parent in sorted(node.parent_keys)]
        checks = [graph.get_check_spec(check) for check in sorted(node.check_keys)]
        lines += [f"    check {check.name}{' (blocking)' if check.blocking else ''}" for check in checks]
    repository = defs.get_repository_def()
    lines += [f"sensor {sensor.name}" for sensor in repository.sensor_defs]
    lines += [f"schedule {schedule.name}" for schedule in repository.schedule_defs]
    golden("graph.txt", "\n".join(lines) + "\n")


def test_the_help_of_every_command(golden):
    def pages(command: click.Command, name: str) -> list[str]:
        result = CliRunner().invoke(main, [*name.split()[1:], "--help"], prog_name="llama-assets", terminal_width=100)
        page = [f"$ {name} --help", result.output]
        for below in getattr(command, "commands", {}).values():
            page += pages(below, f"{name} {below.name}")
        return page

    golden("help.txt", "\n".join(pages(main, "llama-assets")))


def test_the_rendered_llama_swap_configuration_of_the_seed_catalog(golden):
    catalog = load()
    served = [
        Served(
            model,
            f"{n}" * 64,
            PurePosixPath(f"/models/models/{model.id}/{str(n) * 64}/model.gguf"),
            PurePosixPath(f"/models/models/{model.id}/{str(n) * 64}/mmproj.gguf"),
        )
        for n, model in enumerate(catalog.models, 1)
    ]
    golden("config.yaml", render(served, catalog.engine))
