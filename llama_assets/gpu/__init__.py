"""Who may use the card.

Comes in: the lease's name and the tenants of the catalog. Goes out: a held lease that beats until it is given back. On
one machine that is a lock file (`file_lease.py`); in a cluster a Lease with notes on workloads (`cluster_lease.py`),
and a reaper that puts back what a dead holder left.
"""

from llama_assets.gpu.file_lease import FileLease, HeldLease
from llama_assets.gpu.record import GpuError, HeldByOther, Lease, LeaseTimes, Record, Taken

__all__ = ["FileLease", "GpuError", "HeldByOther", "HeldLease", "Lease", "LeaseTimes", "Record", "Taken"]
