"""Code versions: what an asset's outcome depends on besides its inputs. Another one makes what was made stale.

Not here: data versions (each asset gives its own), what happens when one changes (`automation.conditions`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from llama_assets.catalog import Catalog, EngineImage, Model, QuestionFiles


def of_answers(
    catalog: Catalog, model: Model, image: EngineImage | None, tried_image: EngineImage | None = None
) -> str:
    """A benchmark's: the question, the engine, how this model is served, and which other engine, arguments and context
    the catalog tries; other files that it tries are news of `gguf/<m>`.

    How many photos are asked, and in how many turns, is not part of it: figures of both can be compared.
    """
    served = {"context", "arguments"}
    tried = model.candidate.model_dump(mode="json", include=served, exclude_none=True) if model.candidate else None
    further = {name: _asked(question) for name, question in catalog.benchmark.further_questions.items()}
    return _version(
        {
            **_asked(catalog.benchmark.question),
            **({"further": further} if further else {}),
            "max_tokens": catalog.benchmark.max_tokens,
            "engine": catalog.engine.model_dump(mode="json", include={"kind", "gpu_layers", "arguments"}),
            "image": image.reference if image else None,
            "model": model.model_dump(mode="json", include=served),
            **({"tried_image": tried_image.reference} if tried_image else {}),
            **({"tried": tried} if tried else {}),
        }
    )


def of_files(model: Model) -> str:
    """A download's: which other files the catalog tries. What the model's own are is a matter of its revision."""
    return _version(model.candidate.files) if model.candidate and model.candidate.files else "1"


def of_serving(catalog: Catalog, image: EngineImage | None) -> str:
    """The served configuration's: the engine, its image, and how each model is served."""
    served = {
        model.id: model.model_dump(mode="json", include={"context", "arguments", "aliases"}) for model in catalog.models
    }
    return _version(
        {
            "engine": catalog.engine.model_dump(mode="json", exclude={"candidate_image"}),
            "image": image.reference if image else None,
            "models": served,
        }
    )


def _asked(question: QuestionFiles) -> dict[str, str | None]:
    return {
        "prompt": question.prompt.read_text("utf-8"),
        "schema": question.answer_schema.read_text("utf-8"),
        "ranking_key": question.ranking_key,
        "structured_output": question.structured_output,
    }


def _version(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
