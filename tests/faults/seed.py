"""What the seeded parts of the fault suite choose by. `FAULTS_SEED` sets it; else each run has another one."""

from __future__ import annotations

import os
import secrets

# Side by side all workers must collect the same tests: they have one run's id in common.
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
SEED = int(os.environ.get("FAULTS_SEED", 0)) or int(RUN, 16) % 10**6
