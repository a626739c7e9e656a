"""Who may use the card.

Comes in: the lease's name and the tenants of the catalog. Goes out: a held lease that beats until it is given back. On
one machine that is a lock file; the Kubernetes Lease, the notes on workloads and the reaper join it here.
"""

from llama_assets.gpu.file_lease import FileLease, HeldLease
from llama_assets.gpu.record import GpuError, HeldByOther, LeaseTimes, Record

__all__ = ["FileLease", "GpuError", "HeldByOther", "HeldLease", "LeaseTimes", "Record"]
