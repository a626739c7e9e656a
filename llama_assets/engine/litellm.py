"""What a LiteLLM gateway is told to offer what is served here: its `model_list`.

Here: text only. The keys are those of https://docs.litellm.ai/docs/proxy/configs. Not here: the gateway.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from llama_assets.engine.config import MADE_BY, Served

NO_KEY = "none"  # LiteLLM's OpenAI client refuses to start without one


def render_litellm(served: Sequence[Served], address: str, key_variable: str | None = None) -> str:
    """litellm.yaml for these models and their aliases. `key_variable` is what the gateway finds the engine's key in."""
    key = f"os.environ/{key_variable}" if key_variable else NO_KEY
    entries = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{one.model.id}", "api_base": f"{address}/v1", "api_key": key},
            "model_info": {"mode": "chat", "supports_vision": True, "max_input_tokens": one.model.context},
        }
        for one in served
        if not one.is_candidate
        for name in (one.model.id, *one.model.aliases)
    ]
    return MADE_BY + yaml.safe_dump({"model_list": entries}, sort_keys=False)
