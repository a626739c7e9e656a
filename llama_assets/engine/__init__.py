"""What answers HTTP: how it is told what to serve, loaded, asked, and found dead.

In come the catalog and verified files (paths and fingerprints); out go llama-swap's configuration, and clients that
load one model at a time and turn every trouble with an answer into a reply. It knows nothing of stores, photos, rows.
"""

from llama_assets.engine.chat import Ask, EngineLimits, Reply
from llama_assets.engine.client import About, Load, Running, SwapClient
from llama_assets.engine.config import Served, command, config_hash, render
from llama_assets.engine.errors import (
    REPLY_ERRORS,
    EngineError,
    LoadFailed,
    NoServer,
    NotLoaded,
    NotServable,
    UnknownModel,
    Unreachable,
)
from llama_assets.engine.process import Processes, local_server, local_swap

__all__ = [
    "REPLY_ERRORS",
    "About",
    "Ask",
    "EngineError",
    "EngineLimits",
    "Load",
    "LoadFailed",
    "NoServer",
    "NotLoaded",
    "NotServable",
    "Processes",
    "Reply",
    "Running",
    "Served",
    "SwapClient",
    "UnknownModel",
    "Unreachable",
    "command",
    "config_hash",
    "local_server",
    "local_swap",
    "render",
]
