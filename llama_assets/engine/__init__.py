"""What answers HTTP: how it is told what to serve, loaded, asked, and found dead.

In come the catalog and verified files (paths and fingerprints); out go an engine's configuration, its Deployment in a
cluster with proof of what it runs, and clients that load one model at a time and turn every trouble with an answer into
a reply. It knows nothing of stores, photos, rows.
"""

from llama_assets.engine.chat import Ask, EngineLimits, Reply
from llama_assets.engine.client import About, Load, Running, SwapClient
from llama_assets.engine.config import Served, command, config_hash, render
from llama_assets.engine.deployment import EngineDeployment, EngineStatus, EngineTimes, RunningEngine, Written
from llama_assets.engine.deployment_body import EngineConfig, EnginePod, engine_config
from llama_assets.engine.drift import Drift
from llama_assets.engine.errors import (
    REPLY_ERRORS,
    EngineError,
    FieldsTaken,
    LoadFailed,
    NoServer,
    NotLoaded,
    NotReplaceable,
    NotRolledOut,
    NotServable,
    OtherConfig,
    OtherImage,
    UnknownModel,
    Unreachable,
)
from llama_assets.engine.process import Processes, local_server, local_swap

__all__ = [
    "REPLY_ERRORS",
    "About",
    "Ask",
    "Drift",
    "EngineConfig",
    "EngineDeployment",
    "EngineError",
    "EngineLimits",
    "EnginePod",
    "EngineStatus",
    "EngineTimes",
    "FieldsTaken",
    "Load",
    "LoadFailed",
    "NoServer",
    "NotLoaded",
    "NotReplaceable",
    "NotRolledOut",
    "NotServable",
    "OtherConfig",
    "OtherImage",
    "Processes",
    "Reply",
    "Running",
    "RunningEngine",
    "Served",
    "SwapClient",
    "UnknownModel",
    "Unreachable",
    "Written",
    "command",
    "config_hash",
    "engine_config",
    "local_server",
    "local_swap",
    "render",
]
