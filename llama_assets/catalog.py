"""The catalog: `models.yaml`, parsed and checked. The same file in every environment.

Here: what a model, the engine, a tenant and the benchmark are allowed to say, and errors that name file, line, key,
value and what is allowed, all of them at once. Not here: what the Hub holds (`hub`), what was downloaded (`store`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

PACKAGED = Path(__file__).with_name("models.yaml")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 200 models take 0.02 s with libyaml, 0.25 s without
Count = Annotated[int, Field(strict=True)]  # `yes` is not 1
REPO = r"^[\w.-]+/[\w.-]+$"
NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"  # a Kubernetes label value, a URL segment and a folder name at once


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the catalog. `line` is 1-based; `key` is the dotted path."""

    file: Path
    line: int
    key: str
    value: str
    allowed: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.file}:{self.line}: {self.key}{shown}: {self.allowed}"


class CatalogError(ValueError):
    """The catalog cannot be used; `problems` are all that is wrong with it, in the file's order."""

    exit_status = 1

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Entry(BaseModel):
    """A mapping of the file: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Tried(Entry):
    """What a candidate is served with instead; what is not named is the model's own."""

    repo: str | None = Field(None, pattern=REPO, description="owner/name on the Hub")
    revision: str | None = Field(None, min_length=1, description="branch, tag or commit to follow")
    quant: str | None = Field(None, description="quantization as a whole token of the file name, e.g. Q8_0")
    file: str | None = Field(None, pattern=r"\.gguf$", description="exact file name in the repo")
    mmproj: str | None = Field(None, description="precision of the vision projector, e.g. BF16")
    mmproj_file: str | None = Field(None, pattern=r"\.gguf$", description="exact projector file name")
    arguments: tuple[str, ...] | None = Field(None, description="all llama-server arguments, not only the other ones")
    context: Count | None = Field(None, ge=256, le=1 << 20, description="tokens of context")

    @model_validator(mode="after")
    def _differs(self) -> Tried:
        if not self.model_dump(exclude_none=True):
            raise ValueError(
                "name what a candidate is served with: files (`quant` or `file`, `mmproj` or `mmproj_file`, "
                "`revision`, `repo`), `arguments` or `context`"
            )
        for one, other in (("quant", "file"), ("mmproj", "mmproj_file")):
            if None not in (getattr(self, one), getattr(self, other)):
                raise ValueError(f"name only one of `{one}` and `{other}`")
        return self

    @property
    def files(self) -> dict[str, str]:
        """What it names of files; empty where it is tried with the model's own."""
        return self.model_dump(exclude_none=True, exclude={"arguments", "context"})


class Model(Entry):
    """One catalog entry. One of `quant` and `file` names the model, one of `mmproj` and `mmproj_file` its projector."""

    id: str = Field(pattern=NAME, max_length=63, description="lower-case letters, digits, dots and dashes")
    repo: str = Field(pattern=REPO, description="owner/name on the Hub")
    revision: str = Field("main", min_length=1, description="branch, tag or commit to follow")
    quant: str | None = Field(None, description="quantization as a whole token of the file name, e.g. Q4_K_M")
    file: str | None = Field(None, pattern=r"\.gguf$", description="exact file name in the repo; wins over quant")
    mmproj: str | None = Field(None, description="precision of the vision projector, e.g. F16")
    mmproj_file: str | None = Field(None, pattern=r"\.gguf$", description="exact projector file name")
    context: Count = Field(4096, ge=256, le=1 << 20, description="tokens of context")
    arguments: tuple[str, ...] = Field((), description="further llama-server arguments")
    aliases: tuple[str, ...] = Field((), description="other names that answer as this model")
    candidate: Tried | None = Field(
        None,
        description="other files (`quant`, `file`, `mmproj`, `mmproj_file`, `revision`, `repo`), `arguments` or "
        "`context`, measured beside the model's own",
    )

    @model_validator(mode="after")
    def _named_once(self) -> Model:
        if (self.quant is None) == (self.file is None):
            raise ValueError("name the model file by exactly one of `quant` and `file`")
        if (self.mmproj is None) == (self.mmproj_file is None):
            raise ValueError("name the vision projector by exactly one of `mmproj` and `mmproj_file`")
        if self.candidate is not None and self.as_tried() == self.model_copy(update={"candidate": None}):
            raise ValueError("`candidate` names what the model has already; take it out")
        return self

    def as_tried(self) -> Model:
        """The same model with what its candidate names in the place of its own; the same where it has none."""
        said = self.candidate.model_dump(exclude_none=True) if self.candidate else {}
        for one, other in (("quant", "file"), ("mmproj", "mmproj_file")):
            if one in said or other in said:
                said = {one: None, other: None, **said}
        return self.model_copy(update={**said, "candidate": None})


# By tag: what there is when somebody tries this for the first time. Whoever shows an image says whether it is pinned.
DEFAULT_IMAGES = {
    "llama-swap": "ghcr.io/mostlygeek/llama-swap:cuda",
    "llama-server": "ghcr.io/ggml-org/llama.cpp:server-cuda",
}


@dataclass(frozen=True)
class EngineImage:
    """The image an engine's pod is made from, and who chose it."""

    reference: str
    chosen_by: str

    @property
    def digest(self) -> str | None:
        """`sha256:...` if it is pinned."""
        return self.reference.partition("@")[2] or None

    def __str__(self) -> str:
        pinned = "pinned" if self.digest else "not pinned: the same name may be another engine tomorrow"
        return f"{self.reference} ({self.chosen_by}; {pinned})"


PINNED = r"@sha256:[0-9a-f]{64}$"


class Engine(Entry):
    """What answers HTTP. Images are used in a cluster only."""

    kind: Literal["llama-swap", "llama-server"] = Field("llama-swap", description="the engine that a cluster runs")
    image: str | None = Field(None, pattern=PINNED, description="engine image pinned by digest")
    candidate_image: str | None = Field(
        None,
        pattern=PINNED,
        description="engine image pinned by digest that every benchmark measures beside the chosen one: each model is "
        "also asked on it, as `<model>@engine`",
    )
    gpu_layers: Count = Field(99, ge=0, description="layers on the GPU; 0 is CPU only")
    idle_unload_seconds: Count = Field(600, ge=0, description="unload a model nobody asks; 0 is never")
    load_timeout_seconds: Count = Field(300, ge=1, description="how long loading a model may take")
    arguments: tuple[str, ...] = Field((), description="llama-server arguments for every model")

    @model_validator(mode="after")
    def _tries_another(self) -> Engine:
        if self.image and self.candidate_image and self.candidate_image.endswith(self.image.partition("@")[2]):
            raise ValueError("`candidate_image` names the image that is chosen already; take it out")
        return self

    def chosen_image(self, setting: str | None = None) -> EngineImage:
        """`LLAMA_ASSETS_ENGINE_IMAGE` (`setting`), else the catalog's, else the kind's usual one."""
        if setting:
            return EngineImage(setting, "LLAMA_ASSETS_ENGINE_IMAGE")
        if self.image:
            return EngineImage(self.image, "engine.image of the catalog")
        return EngineImage(DEFAULT_IMAGES[self.kind], f"default of {self.kind}")

    def tried_image(self, setting: str | None = None) -> EngineImage | None:
        """The image that is measured beside the chosen one; None where there is none, or it is the chosen one."""
        if self.candidate_image is None:
            return None
        tried = EngineImage(self.candidate_image, "engine.candidate_image of the catalog")
        return None if tried.digest == self.chosen_image(setting).digest else tried


class Gpu(Entry):
    """The card. One lease is one card."""

    lease: str = Field(
        "llama-assets-gpu", pattern=NAME, max_length=63, description="lower-case letters, digits, dots and dashes"
    )
    sharing: Literal["exclusive", "shared"] = Field(
        "exclusive", description="whether the card is taken whole, or shared by time-slicing"
    )
    resource: str | None = Field(
        "nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="what a pod asks one of to get the card, e.g. nvidia.com/gpu; null asks for none",
    )
    memory_gib: float | None = Field(
        None, gt=0, description="the card's memory, e.g. 12; with it a model that cannot fit is told before it is tried"
    )
    runtime_class: str | None = Field(
        None, pattern=NAME, description="RuntimeClass that brings the card into the engine's pod, where one is needed"
    )


def _tenant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    namespace, slash, name = value.partition("/")
    if not slash or not name:
        raise ValueError("write a tenant as namespace/name, or as a mapping of namespace, name and kind")
    return {"namespace": namespace, "name": name}


class TenantEntry(Entry):
    """A workload that owns the card in normal life; written `namespace/name` or with its kind."""

    namespace: str = Field(pattern=NAME, description="lower-case letters, digits, dots and dashes")
    name: str = Field(pattern=NAME, description="lower-case letters, digits, dots and dashes")
    kind: Literal["Deployment", "StatefulSet"] = Field("Deployment", description="what it is in Kubernetes")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


Tenant = Annotated[TenantEntry, BeforeValidator(_tenant)]


class Volumes(Entry):
    """Sizes of what a cluster keeps."""

    models: str = Field("50Gi", pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$", description="size of the model volume, e.g. 50Gi")


class QuestionFiles(Entry):
    """What every photo is asked. Files are looked up beside the catalog and are absolute once loaded."""

    prompt: Path = Field(description="text file with the prompt, beside the catalog")
    answer_schema: Path = Field(alias="schema", description="JSON Schema of the answer, beside the catalog")
    ranking_key: str | None = Field(None, description="the number in the answer that ranks photos, if one does")
    structured_output: Literal["grammar", "response_format"] = Field(
        "grammar", description="how the engine is made to obey the schema"
    )

    @field_validator("prompt", "answer_schema")
    @classmethod
    def _beside_the_catalog(cls, value: Path, info: ValidationInfo) -> Path:
        return Path((info.context or {}).get("folder", Path())) / value


class Benchmark(Entry):
    """What is asked, of how many photos, in how many turns."""

    question: QuestionFiles
    further_questions: dict[str, QuestionFiles] = Field(
        {},
        description="other questions about the same photos, by name: each has a session of its own under the same "
        "lease, and a verdict of its own. Candidates are decided on by `question`",
    )
    photos: Count = Field(100, ge=1, description="photos in the seeded sample")
    seed: Count = Field(1, ge=0, description="draws the sample and shuffles its order")
    blocks: Count = Field(4, ge=1, description="mirrored blocks: an even number, 4 or more, lets the arms take turns")
    max_tokens: Count = Field(400, ge=16, description="where an answer is cut")
    answer_timeout_seconds: Count = Field(120, ge=1, description="when a request is given up")
    incumbent: str | None = Field(None, description="the model others are compared with; the first if not set")
    stop_when_interval_percent: float | None = Field(
        None,
        gt=0,
        le=100,
        description="a session ends once every candidate's typical seconds are known to this many percent on both "
        "sides: asked after each even number of blocks, from 50 photos on. Then `photos` is the most it may take",
    )
    lease_minutes: Count | None = Field(
        None, ge=1, description="leased minutes after which a session ends with the answers it has, and is judged"
    )

    @property
    def questions(self) -> dict[str, QuestionFiles]:
        """Every question by its name; the one that every catalog has bears none."""
        return {"": self.question, **self.further_questions}

    @field_validator("further_questions")
    @classmethod
    def _names(cls, value: dict[str, QuestionFiles]) -> dict[str, QuestionFiles]:
        for name in value:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r}: a name is lower-case letters, digits, dots and dashes")
        return value


class Automation(Entry):
    """What may happen without a person. The switch itself is in the Dagster UI, and off at first."""

    time_zone: str = Field("UTC", description="of the hours here, e.g. Europe/Berlin")
    weekly_benchmark: str = Field("0 3 * * 0", description="when every model is measured again, as five cron fields")
    verify: str = Field(
        "0 4 1 * *", description="when every byte of the files that are served is hashed again, as five cron fields"
    )
    quiet_hours: tuple[str, ...] = Field(
        (), description="when no automatic lease may be held, e.g. 07:00-23:00; what would need one waits"
    )
    tenant_downtime_minutes_a_day: Count | None = Field(
        120, ge=1, description="automatic leases of one day together; null sets no limit"
    )
    poll_minutes: Count = Field(15, ge=1, le=1440, description="how often the Hub is asked for new revisions")
    promotion: Literal["at_once", "on_verdict"] = Field(
        "at_once", description="whether a new fingerprint is served once it is verified, or once it is judged"
    )
    promote_on: tuple[Literal["better", "equivalent"], ...] = Field(
        ("better", "equivalent"), min_length=1, description="verdicts that promote a candidate"
    )
    quarantine_after: Count = Field(3, ge=1, description="failed loads in a row after which a model is not served")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("no such time zone; write e.g. Europe/Berlin") from None
        return value

    @field_validator("weekly_benchmark", "verify")
    @classmethod
    def _cron_fields(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError("write five cron fields, e.g. `0 3 * * 0` for Sundays at three")
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _hours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        clock = r"([01]\d|2[0-3]):[0-5]\d"
        for hours in value:
            if not re.fullmatch(f"{clock}-{clock}", hours) or len(set(hours.split("-"))) == 1:
                raise ValueError(f"{hours!r}: write from-to with two digits each, e.g. 07:00-23:00 or 22:30-06:00")
        return value


class Catalog(Entry):
    """The whole file. Models keep the file's order."""

    models: tuple[Model, ...] = Field(min_length=1)
    engine: Engine = Engine()
    gpu: Gpu = Gpu()
    tenants: tuple[Tenant, ...] = ()
    volumes: Volumes = Volumes()
    benchmark: Benchmark
    automation: Automation = Automation()

    @model_validator(mode="before")
    @classmethod
    def _named_models(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("models"), dict):
            named = [{"id": name, **body} if isinstance(body, dict) else body for name, body in raw["models"].items()]
            return {**raw, "models": named}
        return raw

    def model(self, name: str) -> Model:
        """The model with this id. Raises KeyError with the ids there are."""
        for model in self.models:
            if model.id == name:
                return model
        raise KeyError(f"no model {name!r} in the catalog; there are {', '.join(m.id for m in self.models)}")

    def only(self, names: Sequence[str]) -> Catalog:
        """The same catalog with just these models, in the catalog's order: what a task is told."""
        return self.model_copy(update={"models": tuple(model for model in self.models if model.id in names)})

    @property
    def hash(self) -> str:
        """sha256 over what the catalog says, less where the question's files lie (the question has its own hash) and
        what may happen without a person, which changes no answer.
        """
        files = {"prompt", "answer_schema"}
        further = dict.fromkeys(self.benchmark.further_questions, files)
        said = self.model_dump(
            mode="json",
            exclude={
                "benchmark": {"question": files, "further_questions": further or True},
                "automation": True,
                "gpu": {"memory_gib"},
            },
        )
        if said["engine"]["candidate_image"] is None:  # as before there was such a key
            del said["engine"]["candidate_image"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def load(path: Path | None = None) -> Catalog:
    """Read and check a catalog; the packaged one if `path` is None.

    Raises:
        CatalogError: with every problem found, each with file, line, key, value and what is allowed.
    """
    path = (path or PACKAGED).absolute()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError([Problem(path, 1, "(file)", "", f"cannot be read: {error}")]) from None
    try:
        node = yaml.compose(text, Loader=LOADER)
        raw = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = Problem(
            path, mark.line + 1 if mark else 1, "(file)", "", f"not YAML: {getattr(error, 'problem', error)}"
        )
        raise CatalogError([problem]) from None
    folder = path.resolve().parent
    problems = [Problem(path, line, key, "", "is here twice; keep one") for line, key in _repeated(node)]
    problems += [
        Problem(path, _line(node, loc), ".".join(map(str, loc)), repr(value), allowed)
        for loc, value, allowed in _disagreements(raw, folder)
    ]
    try:
        catalog = Catalog.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        problems += [_problem(path, node, raw, dict(found)) for found in error.errors()]
    if problems:
        raise CatalogError(problems)
    return catalog


def _disagreements(raw: Any, folder: Path) -> Iterator[tuple[tuple[int | str, ...], Any, str]]:
    """What no single value shows: names that clash, an incumbent that is no model, files that are not there.

    Looked up in the raw file, so that they are told together with wrong values instead of after them.
    """
    models = _mapping(raw, "models")
    taken: dict[str, str] = dict.fromkeys(models, "")
    for name, body in models.items():
        aliases = body.get("aliases") if isinstance(body, dict) else None
        for at, alias in enumerate(aliases if isinstance(aliases, list) else []):
            if alias in taken:
                owner = taken[alias]
                yield (
                    ("models", name, "aliases", at),
                    alias,
                    f"is already {f'an alias of {owner}' if owner else 'a model'}",
                )
            taken.setdefault(str(alias), name)
    incumbent = _mapping(raw, "benchmark").get("incumbent")
    if incumbent is not None and incumbent not in models:
        yield ("benchmark", "incumbent"), incumbent, f"is not a model here; allowed: {', '.join(map(str, models))}"
    further = [("benchmark", "further_questions", name) for name in _mapping(raw, "benchmark", "further_questions")]
    for where in (("benchmark", "question"), *further):
        question = _mapping(raw, *where)
        for key in ("prompt", "schema"):
            if isinstance(question.get(key), str) and not (folder / question[key]).is_file():
                yield (*where, key), question[key], f"no such file beside the catalog: {folder / question[key]}"


def _mapping(raw: Any, *keys: str) -> dict[Any, Any]:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def _problem(path: Path, node: yaml.Node | None, raw: Any, found: dict[str, Any]) -> Problem:
    """One pydantic error as a Problem: the location is walked down the YAML nodes for its line."""
    loc = _in_file(raw, found["loc"])
    kind, message, value = found["type"], str(found["msg"]), found["input"]
    if kind == "extra_forbidden":
        known = _known_keys(loc)
        close = difflib.get_close_matches(str(loc[-1]), known, n=1)
        message = "unknown key; " + (f"did you mean `{close[0]}`?" if close else f"allowed: {', '.join(known)}")
    elif kind == "missing":
        message, value = "is required and missing", None
    elif kind == "value_error":
        message = message.removeprefix("Value error, ")
    elif kind == "string_pattern_mismatch" and (meant := _description(loc)):
        message = f"must be {meant}"
    shown = "" if value is None or isinstance(value, BaseModel | dict) else repr(value)
    return Problem(path, _line(node, loc), ".".join(map(str, loc)) or "(file)", shown, message)


def _in_file(raw: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Models are a mapping in the file and a list here: put the name back."""
    if len(loc) >= 2 and loc[0] == "models" and isinstance(loc[1], int) and isinstance(raw.get("models"), dict):
        loc = ("models", list(raw["models"])[loc[1]], *loc[2:])
        if len(loc) == 3 and loc[2] == "id":
            loc = loc[:2]
    return loc


def _shape(loc: tuple[int | str, ...]) -> type[Entry]:
    """The class that says which keys are allowed where `loc`'s last key stands."""
    shapes: dict[str, type[Entry]] = {
        "models": Model, "engine": Engine, "gpu": Gpu,
        "tenants": TenantEntry, "volumes": Volumes, "benchmark": Benchmark, "automation": Automation,
    }  # fmt: skip
    shape: type[Entry] = Catalog if len(loc) == 1 else shapes[str(loc[0])]
    if shape is Model and len(loc) == 4 and loc[2] == "candidate":
        return Tried
    asked = shape is Benchmark and len(loc) == {"question": 3, "further_questions": 4}.get(str(loc[1]))
    return QuestionFiles if asked else shape


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    shape = _shape(loc)
    return [field.alias or name for name, field in shape.model_fields.items() if (shape, name) != (Model, "id")]


def _description(loc: tuple[int | str, ...]) -> str | None:
    if len(loc) == 2 and loc[0] == "models":  # the key itself is the id
        return Model.model_fields["id"].description
    field = _shape(loc).model_fields.get(str(loc[-1]))
    return field.description if field else None


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """1-based line of the deepest part of `loc` that is in the file."""
    line = node.start_mark.line + 1 if node else 1
    for step in loc:
        below: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    line, below = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            below = node.value[step]
            line = below.start_mark.line + 1
        if below is None:
            return line
        node = below
    return line


def _repeated(node: yaml.Node | None, above: str = "") -> Iterator[tuple[int, str]]:
    """Keys that stand twice in one mapping; YAML loaders keep the last one silently."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, above)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{above}.{key.value}" if above else str(key.value)
            if key.value in seen:
                yield key.start_mark.line + 1, name
            seen.add(key.value)
            yield from _repeated(value, name)
