"""The demo's images: ours, and the world's (hub with generated models, tenant, an engine in llama-swap's place).

Comes in: a checkout and a cluster. Goes out: two images on its nodes, under names that change with what is in them, so
that pods are renewed exactly when something changed. Not here: how an image reaches a cluster (`cluster_site`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llama_assets.demo.cluster_site import NoWayIn, Site
from llama_assets.demo.models import REPOS, repo_files

OURS, WORLD = "llama-assets-demo", "llama-assets-demo-world"
PLACEHOLDER = "llama-assets:latest"  # what the Dockerfiles begin with
MADE_OF = ("Dockerfile", "pyproject.toml", "constraints.txt", "README.md", "llama_assets")


@dataclass(frozen=True)
class Images:
    """Two names."""

    ours: str
    world: str


def image_names(root: Path, named: str | None) -> Images:
    """`named` and `<its repository>-world` for a registry, else names by the hash of what goes in.

    Raises:
        NoWayIn: `root` is no checkout.
    """
    missing = [name for name in (*MADE_OF, "manifests") if not (root / name).exists()]
    if missing:
        raise NoWayIn(
            f"{root} is no checkout of llama-assets ({', '.join(missing)} not there); the demo builds from one"
        )
    if named:
        repository, colon, tag = named.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = named, "latest"
        return Images(f"{repository}:{tag}", f"{repository}-world:{tag}")
    ours = _hash(path for name in MADE_OF for path in _files(root / name))
    world = _hash([*_files(root / "manifests/overlays/demo"), *_files(root / "llama_assets")])
    return Images(f"{OURS}:{ours}", f"{WORLD}:{world}")


def build_world(site: Site, images: Images, root: Path, folder: Path, models: Path) -> None:
    """The world's image on the cluster: on the kit around its real llama-server, elsewhere around xllamacpp's.

    `folder` becomes the build's context, `models` keeps what was generated. Ours must have been built.

    Raises:
        NoWayIn, CommandFailed: as `Site.build`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for repo in REPOS:
        for name, path in repo_files(repo, models).items():
            target = folder / "hub" / repo / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(root / "constraints.txt", folder)
    which = "Dockerfile.llama-server" if site.kind == "kit" else "Dockerfile"
    text = (root / "manifests/overlays/demo" / which).read_text()
    (folder / "Dockerfile").write_text(text.replace(PLACEHOLDER, images.ours))
    site.build(images.world, folder)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)


def _hash(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]
