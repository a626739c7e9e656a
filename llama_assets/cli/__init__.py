"""The commands: thin, with imports inside them, so that `--help` and the reaper stay light.

Not here: what a command finds out (the rooms), how it is worded (each error and answer owns its sentence).
"""

from llama_assets.cli import card, health, serving, storage, verdicts  # they add their commands to `main`
from llama_assets.cli.root import main

__all__ = ["card", "health", "main", "serving", "storage", "verdicts"]
