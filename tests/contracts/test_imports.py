"""What importing a part may load. Each entry costs start-up time or memory of the smallest pod if it slips in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = [
    "kubernetes",
    "pandas",
    "pyarrow",
    "scipy",
    "matplotlib",
    "huggingface_hub",
    "xllamacpp",
    "gguf",
    "numpy",
    "PIL",
]


def loaded(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        # the graph: loaded by every `dagster` command; dagster itself brings none of these
        ("import llama_assets.definitions; llama_assets.definitions.defs", [*HEAVY, "httpx"]),
        # the commands: `llama-assets --help`, and later the reaper's pod
        ("import llama_assets.cli", [*HEAVY, "dagster", "sqlalchemy", "grpc", "jinja2"]),
        # a task's process before it knows what it is asked
        ("import llama_assets.tasks.__main__", [*HEAVY, "dagster", "sqlalchemy", "grpc", "jinja2"]),
        (
            "import llama_assets.tasks.work, llama_assets.tasks.benchmark, llama_assets.tasks.store",
            [*HEAVY, "dagster", "httpx"],
        ),
        ("import llama_assets.tasks.download", ["dagster", "pandas", "pyarrow", "scipy", "matplotlib", "numpy"]),
        (
            "import llama_assets.gpu, llama_assets.launch, llama_assets.catalog, llama_assets.kube",
            [*HEAVY, "dagster", "httpx"],
        ),
        # the reaper before it opens its connection
        ("import llama_assets.cli, llama_assets.gpu.reaper", [*HEAVY, "dagster", "httpx", "jinja2"]),
        ("import llama_assets.store", [*HEAVY, "dagster", "httpx"]),
    ],
)
def test_an_import_loads_nothing_heavy(statement, banned):
    assert not loaded(statement) & set(banned)
