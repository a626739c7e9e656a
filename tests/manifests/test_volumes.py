"""Claims of the overlays on a real cluster. The local disk is mounted and used in `tests/platforms/test_kubernetes.py`.

The kit's kernel has no NFS client, so what lies behind NFS volumes is not mounted anywhere here.
"""

from __future__ import annotations

import yaml

from tests.cluster import until
from tests.manifests.installation import volumes


def test_each_claim_of_overlay_nfs_is_bound_to_its_own_export(cluster, namespace):
    found = volumes("nfs", namespace)
    claims = [thing for thing in found if "volumeName" in thing["spec"]]
    exports = [thing for thing in found if thing["kind"] == "PersistentVolume"]
    assert len(claims) == len(exports) == 3
    try:
        cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([*exports, *claims]))
        for claim in claims:
            name = claim["metadata"]["name"]
            bound = lambda name=name: cluster.kube.get("PersistentVolumeClaim", namespace, name)  # noqa: E731
            until(f"{name} to be bound", lambda bound=bound: bound()["status"].get("phase") == "Bound")
            assert bound()["spec"]["volumeName"] == f"{name}-nfs-{namespace}"
    finally:
        for export in exports:
            cluster.kubectl("delete", "PersistentVolume", export["metadata"]["name"], "--wait=false")
