"""`make cluster-demo`: the unmodified catalog through the whole graph on the cluster that KUBECONFIG names.

What is real: Kubernetes, Jobs, the lease, the reaper, Dagster on PostgreSQL, the tenant's scaling, llama.cpp. What is
not: the models (generated), the hub (in a pod), the photos (drawn), and llama-swap, unless LLAMA_SWAP_IMAGE names it.
Says first what it will make and where, leaves everything running; `make cluster-demo-down` removes every trace. Here:
the order of things and what a person reads. Not here: any of the things.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
import yaml

from llama_assets import catalog as catalogs
from llama_assets.demo.cluster_install import NAMESPACE, TENANT, TENANT_NAMESPACE, Chosen, Installation, InstallError
from llama_assets.demo.cluster_site import Site, SiteError, find_site
from llama_assets.demo.cluster_world import Images, build_world, image_names
from llama_assets.demo.showing import materialize
from llama_assets.kube import Kube, KubeError

HOME = Path(".llama-assets/cluster-demo")
MODELS = Path(".llama-assets/demo/models")  # generated once for both demos
ROOT = Path(__file__).parents[2]
HUB = f"http://demo-hub.{NAMESPACE}.svc:8000"


@dataclass(frozen=True)
class Asked:
    """What a person may change."""

    kit: Path | None
    image: str | None
    swap_image: str | None


@click.group()
def main() -> None:
    """Bring the demo up on a cluster, or take it down again."""


@main.command()
@click.option("--kit", type=click.Path(path_type=Path), help="The test kit's program, used if KUBECONFIG is not set.")
@click.option("--image", help="Name in a registry to push our image to, where nodes cannot be loaded directly.")
@click.option("--swap-image", envvar="LLAMA_SWAP_IMAGE", help="A real llama-swap image, instead of the stand-in.")
@click.option("--dry-run", is_flag=True, help="Only say what would be made, and where.")
@click.option("--select", default="*", show_default=True, help="What to materialize, in Dagster's selection syntax.")
def up(kit: Path | None, image: str | None, swap_image: str | None, dry_run: bool, select: str) -> None:
    """Install everything, materialize the whole graph, leave it running."""
    began = time.monotonic()
    try:
        with _opened(Asked(kit, image or None, swap_image or None)) as (installation, asked):
            site, images = installation.site, image_names(ROOT, asked.image)
            for line in plan(site, images, asked):
                click.echo(line)
            installation.refuse_strangers()
            if dry_run:
                return
            chosen = _installed(installation, images, asked)
            before = installation.replicas()
            with _environment(installation, chosen) as environment:
                click.echo(f"$ dagster asset materialize --select '{select}' -m llama_assets.definitions\n")
                done = materialize(select, environment, HOME / "run.log", began, folder=HOME)
            after = installation.replicas()
            if done.status:
                words = installation.last_words()
                _failed(f"the run failed; its whole log is {HOME / 'run.log'}", *words)
            for line in end(installation, done.verdict, before, after, time.monotonic() - began):
                click.echo(line)
            if before != after:
                _failed(f"the tenant had {before} replicas before, and has {after} after")
    except (SiteError, InstallError, KubeError, catalogs.CatalogError) as error:
        _failed(str(error), status=error.exit_status)


@main.command()
@click.option("--kit", type=click.Path(path_type=Path), help="The test kit's program, used if KUBECONFIG is not set.")
@click.option("--image", help="As it was given to `up`.")
def down(kit: Path | None, image: str | None) -> None:
    """Remove every trace of the demo from the cluster."""
    try:
        with _opened(Asked(kit, image or None, None)) as (installation, _):
            site = installation.site
            click.echo(f"cluster  {site.context} ({site.kind})")
            found = installation.remove()
            named = image_names(ROOT, image)
            names = [name.rpartition(":")[0] for name in (named.ours, named.world)]
            site.forget(names, click.echo)
            click.echo("gone" if found else "there was nothing of the demo on this cluster")
    except (SiteError, InstallError, KubeError) as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)


def plan(site: Site, images: Images, asked: Asked) -> Iterator[str]:
    """What will be made, said before anything is."""
    cards = f"{site.cards} nvidia.com/gpu" if site.cards else "no nvidia.com/gpu"
    yield f"cluster  context {site.context} ({site.kind}), {cards} on its nodes"
    yield f"makes    namespace {NAMESPACE}: Dagster on PostgreSQL, reaper, llama-swap, 4 volumes, a hub"
    yield f"         namespace {TENANT_NAMESPACE}: a stand-in for {TENANT} that has the card"
    yield "         2 ValidatingAdmissionPolicies llama-assets-*, with their bindings"
    yield f"images   {images.ours}, {images.world}"
    if asked.swap_image:
        yield f"engine   {asked.swap_image}"
    elif site.kind == "kit":
        yield "engine   a stand-in for llama-swap, around llama.cpp's real llama-server (CPU)"
    else:
        yield "engine   a stand-in for llama-swap, around llama.cpp's server code in xllamacpp (CPU)"
    if site.cards:
        yield "catalog  models.yaml, as it is; the card is counted by the scheduler, the generated models do not use it"
    else:
        yield "catalog  models.yaml with one line more, `gpu.resource: null`: there is no card that a pod could ask for"
    yield "removed  by `make cluster-demo-down`\n"


def end(installation: Installation, verdict: str, before: int, after: int, seconds: float) -> Iterator[str]:
    """The verdict, the tenant, and where to look."""
    port = f"{' '.join(installation.site.kubectl)} port-forward -n {NAMESPACE} service/dagster-webserver 3000:3000"
    kubeconfig = f"KUBECONFIG={installation.site.kubeconfig} " if installation.site.kubeconfig else ""
    yield f"\n{verdict or 'no verdict: the selection did not reach it'}\n"
    yield f"tenant       {TENANT_NAMESPACE}/{TENANT}: {before} replica(s) before, {after} after"
    yield f"still there  kubectl get all -n {NAMESPACE}"
    yield f"next         {kubeconfig}{port}"
    yield "             and http://127.0.0.1:3000 has the graph with this run; materialize it again there"
    yield f"             make cluster-demo-down removes it all\n\n{seconds:.0f} s in all"


def _installed(installation: Installation, images: Images, asked: Asked) -> Chosen:
    """Images on the nodes, the world up, the rest up. Returns what was chosen on the way."""
    site, say = installation.site, installation.say
    say(f"building {images.ours}")
    site.build(images.ours, ROOT)
    say(f"building {images.world}")
    build_world(site, images, ROOT, HOME / "image", MODELS)
    catalog = None if site.cards else catalog_without_card(HOME / "catalog")
    first = Chosen(images.ours, images.world, {}, catalog, cards=bool(site.cards))
    installation.write(first)
    say(f"applying namespaces, tenant and hub; {HOME}/kustomization.yaml is what is applied")
    installation.apply_world()
    installation.await_world()
    engine = asked.swap_image or (installation.engine_digest() if site.digests else None) or images.world
    chosen = Chosen(images.ours, images.world, {"LLAMA_ASSETS_ENGINE_IMAGE": engine}, catalog, cards=bool(site.cards))
    installation.write(chosen)
    say(f"applying everything else; engine {engine}")
    installation.apply()
    installation.await_ready()
    return chosen


def catalog_without_card(folder: Path) -> Path:
    """The packaged catalog for a cluster without cards, with its question's files beside it, in one flat folder."""
    said = yaml.safe_load(catalogs.PACKAGED.read_text(encoding="utf-8"))
    said["gpu"]["resource"] = None
    return flat_catalog(said, folder)


def flat_catalog(said: dict[str, object], folder: Path) -> Path:
    """A catalog and the packaged question's files in one folder, as a ConfigMap can hold them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    benchmark = said["benchmark"]
    assert isinstance(benchmark, dict)
    question = benchmark["question"]
    for key in ("prompt", "schema"):
        file = catalogs.PACKAGED.parent / question[key]
        shutil.copy(file, folder / file.name)
        question[key] = file.name
    (folder / "models.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    return folder


@contextmanager
def _environment(installation: Installation, chosen: Chosen) -> Iterator[dict[str, str]]:
    with installation.forwarded("dagster-postgresql", 5432) as port:
        yield outside_environment(installation, chosen, HOME, port)


def outside_environment(installation: Installation, chosen: Chosen, home: Path, port: int) -> dict[str, str]:
    """The environment of a Dagster on this machine whose tasks are Jobs there and whose runs are in that database."""
    instance = home / "dagster"
    instance.mkdir(parents=True, exist_ok=True)
    said = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    database = {"hostname": "127.0.0.1", "port": port, "username": "dagster", "db_name": "dagster"}
    said["storage"] = {"postgres": {"postgres_db": {**database, "password": {"env": "DAGSTER_PG_PASSWORD"}}}}
    for key in ("local_artifact_storage", "compute_logs"):
        said[key]["config"]["base_dir"] = str((instance / key).absolute())
    (instance / "dagster.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    own: Mapping[str, str] = installation.site.environment
    inherited = {name: value for name, value in own.items() if not name.startswith(("LLAMA_", "HF_", "DAGSTER_"))}
    catalog = {"LLAMA_ASSETS_CATALOG": str((chosen.catalog / "models.yaml").absolute())} if chosen.catalog else {}
    return {
        **inherited,
        "DAGSTER_HOME": str(instance.absolute()),
        "DAGSTER_PG_PASSWORD": installation.password(),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "LLAMA_ASSETS_PLATFORM": "kubernetes",
        "LLAMA_ASSETS_IMAGE": chosen.image,
        "HF_ENDPOINT": HUB,
        "PYTHONUNBUFFERED": "1",
        **catalog,
        **chosen.settings,
    }


@contextmanager
def _opened(asked: Asked) -> Iterator[tuple[Installation, Asked]]:
    site = find_site(asked.kit, bool(asked.image), dict(os.environ), click.echo)
    with Kube.open(site.kubeconfig) as kube:
        yield Installation(site, kube, HOME, ROOT, click.echo), asked


def _failed(*said: str, status: int = 1) -> NoReturn:
    click.echo("\n" + "\n".join(said), err=True)
    click.echo("\nmake cluster-demo-down removes what was made; make cluster-demo goes on from here", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
