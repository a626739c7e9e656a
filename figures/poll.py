"""Looking whether 100 followed repos have moved, on a hub that takes 50 ms for an answer: seconds, and requests a repo.

Once by itself, and once as a whole tick of the sensor `huggingface_revisions`, with its cursor and checks. The rival
is what one writes with huggingface_hub alone: `model_info` with the files, as many at a time as we ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from figures.hub import hub_process
from figures.measuring import Goal, How, in_turns, line, scratch
from llama_assets.catalog import Model
from llama_assets.demo.hub import LoopbackHub
from llama_assets.hub import Hub, HubError, HubLimits, Revision, watch_all

SECONDS, REQUESTS = Goal(3.0, "ours"), Goal(1.0, "ours")


def measure(how: How) -> Iterator[dict[str, Any]]:
    from huggingface_hub import HfApi

    repos, delay_s = (8, 0.01) if how.quick else (100, 0.05)
    models = [Model(id=f"m{n}", repo=f"org/m{n}-GGUF", quant="Q4_K_M", mmproj="F16") for n in range(repos)]
    with hub_process(partial(fill, models, delay_s)) as there, a_sensor(models, there.url) as tick:
        hub, limits = Hub(there.url), HubLimits()
        seen = _revisions(watch_all(hub, models, {}))
        there.forget_requests()

        def ours() -> float:
            began = time.monotonic()
            watched = watch_all(hub, models, seen)
            seconds = time.monotonic() - began
            assert _revisions(watched) == seen
            return seconds

        def rival() -> float:
            api = HfApi(endpoint=there.url, token=False)
            began = time.monotonic()
            with ThreadPoolExecutor(limits.at_once) as pool:
                infos = pool.map(lambda model: api.model_info(model.repo, files_metadata=True), models)
                shas = {model.id: info.sha for model, info in zip(models, infos, strict=True)}
            seconds = time.monotonic() - began
            assert shas == {name: revision.commit for name, revision in seen.items()}
            return seconds

        asked: dict[str, list[float]] = {"watch_all": [], "tick": []}

        def counted(name: str, look: Callable[[], float]) -> float:
            there.forget_requests()
            seconds = look()
            asked[name].append(sum(there.counts().values()) / repos)
            return seconds

        tick()  # the first one reports all of them
        runs = {
            "ours": partial(counted, "watch_all", ours),
            "tick": partial(counted, "tick", tick),
            "model_info": rival,
        }
        found = in_turns(how, runs, warm_up=True)
    command = (
        f"llama_assets.hub.watch_all, {repos} repos, {limits.at_once} at a time, answers after {delay_s * 1000:g} ms"
    )
    beside = (
        "model_info",
        found["model_info"],
        f"HfApi().model_info(repo, files_metadata=True), {limits.at_once} threads",
    )
    yield line("poll", how, SECONDS, "s", found["ours"], command, beside, repos=repos)
    yield line("poll_requests", how, REQUESTS, "requests a repo", asked["watch_all"][1:], command, repos=repos)
    tick_command = f"a quiet tick of huggingface_revisions, {repos} repos, answers after {delay_s * 1000:g} ms"
    yield line("poll_tick", how, SECONDS, "s", found["tick"], tick_command, beside, repos=repos)
    yield line("poll_tick_requests", how, REQUESTS, "requests a repo", asked["tick"][1:], tick_command, repos=repos)


@contextmanager
def a_sensor(models: list[Model], hub: str) -> Iterator[Callable[[], float]]:
    """A tick of the sensor over these models; each call is one, and says its seconds."""
    import dagster as dg

    from llama_assets import catalog as catalogs
    from llama_assets.automation.revisions import huggingface_revisions
    from llama_assets.platforms import local
    from llama_assets.settings import Settings

    catalog = catalogs.load().model_copy(update={"models": tuple(models)})
    sensor = huggingface_revisions(catalog, local(Settings(hf_endpoint=hub)))
    cursor: str | None = None
    with scratch() as folder, dg.instance_for_test(temp_dir=str(folder)) as instance:

        def tick() -> float:
            nonlocal cursor
            began = time.monotonic()
            said = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))
            seconds = time.monotonic() - began
            assert cursor is None or not said.asset_events, "the hub was quiet"
            for event in said.asset_events:
                instance.report_runless_asset_event(event)
            cursor = said.cursor
            return seconds

        yield tick


def fill(models: list[Model], delay_s: float, hub: LoopbackHub) -> None:
    """A model, another quantization and a projector in each repo."""
    for model in models:
        files = {
            name: f"GGUF {model.id} {name}".encode() for name in ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf")
        }
        hub.push(model.repo, {"README.md": model.id, **files})
    hub.answer_late(delay_s)


def _revisions(watched: Any) -> dict[str, Revision]:
    for found in watched.values():
        if isinstance(found, HubError):
            raise found
    return {name: found.revision for name, found in watched.items()}
