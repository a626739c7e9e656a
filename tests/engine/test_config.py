"""What an engine is told: the arguments of one model, and llama-swap's config for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
import yaml

from llama_assets import catalog
from llama_assets.engine import NotServable, Served, command, config_hash, render
from llama_assets.engine.worker import ALONE, SETTERS

SEED = catalog.load()


def served(**changes: object) -> Served:
    model = SEED.models[0].model_copy(update=changes)
    folder = PurePosixPath("/models/models") / model.id / ("a" * 64)
    return Served(model, "a" * 64, folder / "model.gguf", folder / "mmproj.gguf")


def value(words: list[str], flag: str) -> str:
    assert words.count(flag) == 1
    return words[words.index(flag) + 1]


def test_the_command_names_port_files_context_layers_and_no_fitting():
    words = command(served(), SEED.engine)
    assert words[0] == "llama-server"
    assert value(words, "--port") == "${PORT}" and value(words, "--host") == "127.0.0.1"
    assert value(words, "--model").endswith(f"/{'a' * 64}/model.gguf")
    assert value(words, "--mmproj").endswith(f"/{'a' * 64}/mmproj.gguf")
    assert (value(words, "--ctx-size"), value(words, "--n-gpu-layers")) == ("3072", "99")
    assert (value(words, "--fit"), value(words, "--parallel"), value(words, "--cache-ram")) == ("off", "1", "0")
    assert value(words, "--threads-http") == "32" and {"--metrics", "--offline"} <= set(words)


def test_the_models_arguments_win_over_the_engines_and_both_over_ours():
    engine = SEED.engine.model_copy(update={"arguments": ("--flash-attn", "on", "-ub", "1024", "--threads", "4")})
    words = command(served(arguments=("--flash-attn", "off", "-c", "8192", "--seed", "-1")), engine)
    assert (value(words, "--flash-attn"), value(words, "--ctx-size"), value(words, "-ub")) == ("off", "8192", "1024")
    assert value(words, "--seed") == "-1" and "-c" not in words


@pytest.mark.parametrize("argument", ["--port", "-m", "--mmproj", "--host"])
def test_what_we_write_cannot_be_written_in_the_catalog(argument: str):
    with pytest.raises(NotServable, match=f"qwen3vl-8b cannot be served: `{argument}` in arguments"):
        command(served(arguments=(argument, "1")), SEED.engine)


@pytest.mark.parametrize("words", [("4096",), ("--alias", "a\nb"), ("--alias", "${env.SECRET}")])
def test_what_cannot_be_written_down_is_refused(words: tuple[str, ...]):
    with pytest.raises(NotServable, match="qwen3vl-8b"):
        command(served(arguments=words), SEED.engine)


def test_every_argument_of_ours_is_one_the_worker_honours():
    flags = [word for word in command(served(), SEED.engine) if word.startswith("-")]
    assert set(flags) <= set(SETTERS) and set(SETTERS) >= ALONE


def test_the_config_is_the_same_text_for_the_same_input_and_another_for_another_file():
    text = render([served()], SEED.engine)
    assert text == render([served()], SEED.engine)
    moved = replace(served(), fingerprint="b" * 64)
    assert config_hash(text) != config_hash(render([moved], SEED.engine))


def test_the_config_says_how_long_where_and_what():
    model = served(aliases=("travel",))
    config = yaml.safe_load(render([model], SEED.engine))
    entry = config["models"]["qwen3vl-8b"]
    assert config["healthCheckTimeout"] == 300 and entry["ttl"] == 600
    assert entry["checkEndpoint"] == "/health" and entry["aliases"] == ["travel"]
    assert entry["metadata"]["fingerprint"] == "a" * 64
    assert entry["cmd"].split() == command(model, SEED.engine)
    assert config["captureBuffer"] == 0, "llama-swap must not keep photos"
    assert "localhost" not in entry["proxy"]


def test_a_wait_shorter_than_llama_swap_allows_is_written_as_it_will_be():
    engine = SEED.engine.model_copy(update={"load_timeout_seconds": 3})
    assert yaml.safe_load(render([served()], engine))["healthCheckTimeout"] == 15


def test_models_keep_the_catalogs_order():
    other = replace(served(), model=SEED.models[2])
    assert list(yaml.safe_load(render([other, served()], SEED.engine))["models"]) == ["qwen3vl-4b", "qwen3vl-8b"]
