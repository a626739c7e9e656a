"""API calls a minute of an installation in which nothing happens: `python -m tests.manifests.idle [MINUTES]`.

Installs the manifests in namespaces of their own on the kit, lets them stand, and counts by account what the API server
answered. Run it with nothing else on the cluster: the API server is started again before and after it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from llama_assets.kube import Kube
from tests.cluster import IMAGE, KIT, Cluster, _built, _started, until
from tests.manifests.calls import recorded
from tests.manifests.conftest import installation, workload
from tests.manifests.installation import PASSWORD
from tests.manifests.test_installation import ready


def main(minutes: float) -> None:
    """Prints a JSON line an account, with its calls a minute, all together and by what is called."""
    kubeconfig = _started()
    _built()
    with Kube.open(kubeconfig) as kube, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(kubeconfig, kube, KIT)
        with installation(cluster, IMAGE, Path(folder)) as made:
            kube.create("Deployment", made.tenants, workload("Deployment", 1))
            secret = {"metadata": {"name": "dagster-postgresql"}, "stringData": {"postgresql-password": PASSWORD}}
            kube.create("Secret", made.namespace, secret)
            until("every server to be ready", lambda: ready(made), 240)
            with recorded(cluster, made.namespace) as seen:
                time.sleep(minutes * 60)
    by_account: dict[str, Counter[str]] = {}
    for call, times in seen.calls.items():
        name = call.account.partition(":")[2]
        by_account.setdefault(name, Counter())[f"{call.verb} {call.resource} {call.name}".strip()] += times
    for account, calls in sorted(by_account.items()):
        each = {what: round(times / minutes, 1) for what, times in calls.most_common()}
        said = {"account": account, "calls_a_minute": round(calls.total() / minutes, 1), "minutes": minutes, **each}
        print(json.dumps({"figure": "idle_installation", **said}), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
