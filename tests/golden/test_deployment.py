"""What is applied to a cluster for the seed catalog, as text: policies, quotas and people's eyes rely on it."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
import yaml

from llama_assets.catalog import Catalog, EngineImage, load
from llama_assets.engine import EnginePod, Served, engine_config
from llama_assets.engine.deployment_body import config_map, deployment, service

DIGEST = "sha256:" + "d" * 64


def served(catalog: Catalog) -> list[Served]:
    folders = [PurePosixPath(f"/models/models/{m.id}/{str(n) * 64}") for n, m in enumerate(catalog.models, 1)]
    return [
        Served(model, folder.name, folder / "model.gguf", folder / "mmproj.gguf")
        for model, folder in zip(catalog.models, folders, strict=True)
    ]


@pytest.mark.parametrize("kind", ["llama-swap", "llama-server"])
def test_the_objects_of_each_kind_of_engine(kind, golden):
    catalog = load()
    engine = catalog.engine.model_copy(update={"kind": kind})
    image = EngineImage(f"registry.example/{kind}@{DIGEST}", "engine.image of the catalog")
    secret = "engine-key" if kind == "llama-server" else None
    pod = EnginePod("llama-cpp", image, kind, secret=secret, runtime_class="nvidia" if secret else None)
    config = engine_config(served(catalog), engine, pod.address, secret is not None)
    bodies = [config_map(pod, config), service(pod), deployment(pod, config)]
    for text in bodies[0]["data"]:
        bodies[0]["data"][text] = "(its own golden text)"
    golden(f"engine-{kind}.yaml", yaml.safe_dump_all(bodies, sort_keys=False, width=120))


def test_the_presets_of_llama_cpps_router(golden):
    catalog = load()
    engine = catalog.engine.model_copy(update={"kind": "llama-server"})
    golden("presets.ini", engine_config(served(catalog), engine, "http://llama-swap.llama-cpp.svc:8080").text)


def test_the_models_of_a_litellm_gateway(golden):
    catalog = load()
    address = "http://llama-swap.llama-cpp.svc:8080"
    golden("litellm.yaml", engine_config(served(catalog), catalog.engine, address, secret=True).gateway)
