"""What differs between environments: read once, by the program's entry, from LLAMA_ASSETS_* and `.env`.

Here: names, defaults, and the one-line error for a wrong value. Not here: what the models are (`catalog.py`).
Rooms never read the environment; they are handed values from `Settings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, ValidationError
from pydantic.functional_validators import AfterValidator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "LLAMA_ASSETS_"


class SettingsError(ValueError):
    """An environment variable holds a value that is not allowed; the message is one line."""

    exit_status = 2


def _http_address(value: str) -> str:
    TypeAdapter(HttpUrl).validate_python(value)
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_http_address)]


class Settings(BaseSettings):
    """The environment of one process. Build it with `Settings.read()`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    platform: Literal["local", "kubernetes"] = Field("local", description="where tasks run")
    catalog: Path | None = Field(None, description="the catalog file; the packaged models.yaml if not set")
    store: Path = Field(Path(".llama-assets/store"), description="the model volume")
    results: Path = Field(Path(".llama-assets/results"), description="sessions, rows and reports")
    photos: Path | None = Field(None, description="folder with the photos to ask about")
    immich_url: Address | None = Field(None, description="Immich, for photos of an album and for its queues")
    immich_key: SecretStr | None = Field(None, description="key of Immich's API that may read the album")
    immich_album: str | None = Field(
        None, description="album of Immich, by name or id, whose photos are asked about; instead of a folder"
    )
    immich_photos: Literal["originals", "previews"] = Field(
        "originals", description="which files of the album are asked about"
    )
    immich_admin_key: SecretStr | None = Field(
        None,
        description="an administrator's key: Immich's machine learning queues are paused while its card is leased",
    )
    namespace: str = Field("llama-cpp", description="Kubernetes namespace of llama-swap and the tasks")
    image: str = Field("llama-assets:latest", description="image of the task Jobs")
    photos_claim: str = Field("llama-photos", description="volume claim with the photos, mounted in a benchmark's Job")
    engine_image: str | None = Field(None, description="image of the engine in a cluster, instead of the catalog's")
    engine_secret: str | None = Field(None, description="Secret whose key api-key the engine demands of its clients")
    engine_api_key: SecretStr | None = Field(None, description="key of the engine at LLAMA_ASSETS_ENGINE_URL")
    lease_lifetime_seconds: float = Field(
        60.0, ge=2, le=3600, description="a holder of the cluster's card that does not renew for so long is dead"
    )
    without_reaper: bool = Field(False, description="take the cluster's card though nobody would give it back for us")
    alert_url: SecretStr | None = Field(
        None, description="where what needs a person is told: a Slack-compatible webhook, or a topic of ntfy"
    )
    alert_format: Literal["slack", "ntfy"] = Field(
        "slack", description="how a message to LLAMA_ASSETS_ALERT_URL is written"
    )
    ui_url: Address | None = Field(None, description="where the Dagster UI is seen, for links in what is told")
    plain_http_registry: str | None = Field(
        None,
        pattern=r"^[^\s/@]+$",
        description="host[:port] of a container registry without TLS, for the engine's image",
    )
    registry_config: Path | None = Field(
        None,
        description="Docker config file with logins of private registries, for the engine's image; "
        "~/.docker/config.json if not set",
    )
    webhook_secret: SecretStr | None = Field(
        None, description="what the Hub's webhook is to send as its secret, where one is listened for"
    )
    engine_url: Address | None = Field(None, description="a running llama-swap or llama-server to use")
    llama_swap_bin: Path | None = Field(None, validation_alias="LLAMA_SWAP_BIN", description="a llama-swap binary")
    hf_endpoint: Address = Field(
        "https://huggingface.co", validation_alias="HF_ENDPOINT", description="the Hub, or a mirror of it"
    )
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN", description="token for gated repos")

    @classmethod
    def read(cls) -> Settings:
        """The settings of this process.

        Raises:
            SettingsError: a value is not allowed; names the variable, the value and what is allowed.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from None

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Every environment variable read here, with what it is for (doctor and docs list them)."""
        return {
            str(field.validation_alias or PREFIX + name.upper()): field.description or ""
            for name, field in cls.model_fields.items()
        }


def _sentence(problem: object) -> str:
    assert isinstance(problem, dict)
    name = str(problem["loc"][0])
    variable = name if name.isupper() else PREFIX + name.upper()
    allowed = str(problem["msg"])
    return f"{variable}={problem['input']!r}: {allowed[0].lower()}{allowed[1:]}"
