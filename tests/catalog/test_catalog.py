"""The catalog says all that is wrong with it at once, each with file, line, key, value and what is allowed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llama_assets.catalog import PACKAGED, Automation, Catalog, CatalogError, Engine, EngineImage, Tried, load

FILES = "{prompt: questions/travel/prompt.txt, schema: questions/travel/schema.json}"


def changed(tmp_path: Path, *pairs: tuple[str, str]) -> Path:
    text = PACKAGED.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    (tmp_path / "questions").symlink_to(PACKAGED.parent / "questions")
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def lines(error: CatalogError) -> list[str]:
    return [str(problem).split(": ", 1)[1] for problem in error.problems]


def test_the_packaged_catalog_is_the_one_at_the_top_and_has_the_seeds_models():
    catalog = load()
    assert [model.id for model in catalog.models] == ["qwen3vl-8b", "minicpm-v-4-5", "qwen3vl-4b"]
    assert {(model.quant, model.mmproj, model.context) for model in catalog.models} == {("Q4_K_M", "F16", 3072)}
    assert [str(tenant) for tenant in catalog.tenants] == ["immich/immich-machine-learning"]
    top = Path(__file__).parents[2] / "models.yaml"
    assert top.resolve() == PACKAGED.resolve()


def test_every_problem_is_told_at_once_in_the_files_order_with_line_key_value_and_what_is_allowed(tmp_path):
    path = changed(
        tmp_path,
        ("quant: Q4_K_M", "quant: Q4_K_M\n    contxt: 9"),
        ("repo: openbmb/MiniCPM-V-4_5-gguf", "repo: MiniCPM"),
        ("sharing: exclusive", "sharing: alone"),
        ("photos: 100", "photos: many"),
        ("incumbent: qwen3vl-8b", "incumbent: gpt"),
        ("prompt: questions/travel/prompt.txt", "prompt: nowhere.txt"),
    )
    with pytest.raises(CatalogError) as caught:
        load(path)
    problems = caught.value.problems
    text = path.read_text().splitlines()
    assert [problem.key for problem in problems] == [
        "models.qwen3vl-8b.contxt",
        "models.minicpm-v-4-5.repo",
        "gpu.sharing",
        "benchmark.question.prompt",
        "benchmark.photos",
        "benchmark.incumbent",
    ]
    for problem in problems:
        assert problem.file == path
        assert problem.key.rsplit(".", 1)[-1] in text[problem.line - 1], problem
    assert "did you mean `context`" in problems[0].allowed
    assert "owner/name" in problems[1].allowed and problems[1].value == "'MiniCPM'"
    assert "'exclusive' or 'shared'" in problems[2].allowed
    assert "qwen3vl-8b, minicpm-v-4-5, qwen3vl-4b" in problems[5].allowed
    assert str(problems[2]).startswith(f"{path}:{problems[2].line}: gpu.sharing = 'alone': ")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    quant: Q4_K_M\n", "", "exactly one of `quant` and `file`"),
        ("    mmproj: F16 #", "    # mmproj: F16 #", "exactly one of `mmproj` and `mmproj_file`"),
        ("photos: 100", "photos: 0", "greater than or equal to 1"),
        ("photos: 100", "photos: yes", "valid integer"),
        ("gpu_layers: 99", "gpu_layers: -1", "greater than or equal to 0"),
        ("idle_unload_seconds", "idle_unload_secnds", "did you mean `idle_unload_seconds`"),
        ("models: 50Gi", "models: 50GB", "50Gi"),
        ("  - immich/immich-machine-learning", "  - immich", "namespace/name"),
        ("  minicpm-v-4-5:", "  MiniCPM:", "lower-case"),
        ("  qwen3vl-4b:", "  qwen3vl-8b:", "is here twice"),
        ("    context: 3072", "    context: 3072\n    aliases: [qwen3vl-4b]", "is already a model"),
        ("seed: 1", "seed: 1\n  sed: 2", "unknown key"),
        ("time_zone: UTC", "time_zone: Berlin", "no such time zone; write e.g. Europe/Berlin"),
        ('"0 3 * * 0"', '"0 3 * *"', "write five cron fields"),
        ("quiet_hours: []", 'quiet_hours: ["7-23"]', "'7-23': write from-to with two digits each"),
        ("quiet_hours: []", 'quiet_hours: ["22:00-22:00"]', "write from-to with two digits each"),
        ("quiet_hours: []", 'quiet_hours: "07:00-23:00"', "valid tuple"),
        ("a_day: 120", "a_day: 0", "greater than or equal to 1"),
        ("a_day: 120", "a_day: two hours", "valid integer"),
        ("poll_minutes: 15", "poll_minutes: 0", "greater than or equal to 1"),
        ("promotion: at_once", "promotion: never", "'at_once' or 'on_verdict'"),
        ("[better, equivalent]", "[worse]", "'better' or 'equivalent'"),
        ("  photos: 100", f"  further_questions:\n    captions: {FILES.replace('schema', 'shema')}", "mean `schema`?"),
        ("  photos: 100", f"  further_questions:\n    Captions: {FILES}", "'Captions': a name is lower-case letters"),
        (
            "  photos: 100",
            f"  further_questions:\n    a: {FILES.replace('prompt.txt', 'p.txt')}",
            "no such file beside",
        ),
        ("quarantine_after: 3", "quarantine_afer: 3", "did you mean `quarantine_after`"),
    ],
)
def test_a_wrong_value_is_one_clear_line(tmp_path, old, new, says):
    with pytest.raises(CatalogError) as caught:
        load(changed(tmp_path, (old, new)))
    assert any(says in line for line in lines(caught.value)), str(caught.value)


def test_a_wrong_value_of_automation_names_file_line_and_key(tmp_path):
    path = changed(tmp_path, ("quiet_hours: []", 'quiet_hours: ["07:00-23:00", "7-23"]'))
    with pytest.raises(CatalogError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == (path, "automation.quiet_hours")
    assert "quiet_hours" in path.read_text().splitlines()[problem.line - 1]


def test_the_defaults_of_automation_are_what_the_file_says():
    assert load().automation == Automation()


def test_yaml_that_is_none_names_the_line(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  a: [1\nengine: {}\n")
    with pytest.raises(CatalogError, match=r"models.yaml:3: \(file\): not YAML"):
        load(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "just words", "models:\n", "models: {a: 3}\n", "models: [1]\nbenchmark: x\n"]
)
def test_a_file_of_another_shape_is_an_error_and_not_a_crash(tmp_path, content):
    path = tmp_path / "models.yaml"
    path.write_text(content)
    with pytest.raises(CatalogError) as caught:
        load(path)
    assert caught.value.problems and caught.value.exit_status == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CatalogError, match=r"nowhere.yaml:1: \(file\): cannot be read"):
        load(tmp_path / "nowhere.yaml")


def test_a_catalog_survives_the_way_to_a_task_and_back():
    catalog = load().only(["qwen3vl-4b"])
    again = Catalog.model_validate_json(catalog.model_dump_json())
    assert again == catalog and again.hash == catalog.hash
    assert [model.id for model in again.models] == ["qwen3vl-4b"]


def test_the_hash_knows_what_the_catalog_says_and_not_where_it_lies(tmp_path):
    same = load(changed(tmp_path, ("# all of them", "# every one")))
    assert same.hash == load().hash
    (tmp_path / "models.yaml").write_text((tmp_path / "models.yaml").read_text().replace("seed: 1", "seed: 2"))
    assert load(tmp_path / "models.yaml").hash != load().hash


def test_a_candidate_of_the_catalog_differs_in_something_and_its_wrong_keys_are_named(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED.parent / "questions", tmp_path / "questions")

    def with_candidate(said: str) -> Catalog:
        text = PACKAGED.read_text().replace("    quant: Q4_K_M\n", f"    quant: Q4_K_M\n    candidate: {said}\n", 1)
        (tmp_path / "models.yaml").write_text(text)
        return load(tmp_path / "models.yaml")

    assert with_candidate("{context: 2048}").models[0].candidate == Tried(context=2048)
    with pytest.raises(CatalogError, match="did you mean `context`"):
        with_candidate("{contxt: 2048}")
    with pytest.raises(CatalogError, match="name what a candidate is served with"):
        with_candidate("{}")
    with pytest.raises(CatalogError, match="name only one of `quant` and `file`"):
        with_candidate("{quant: Q8_0, file: a.gguf}")
    with pytest.raises(CatalogError, match="`candidate` names what the model has already; take it out"):
        with_candidate("{quant: Q4_K_M}")
    tried = with_candidate("{file: b.gguf, revision: v2, context: 2048}").models[0].as_tried()
    own = load().models[0]
    assert (tried.quant, tried.file, tried.revision, tried.context) == (None, "b.gguf", "v2", 2048)
    assert (tried.repo, tried.mmproj, tried.candidate) == (own.repo, own.mmproj, None), "the rest is the model's own"


def test_a_further_question_has_a_name_need_not_rank_and_changes_the_hash_by_what_it_is_not_where_it_lies(tmp_path):
    path = changed(tmp_path, ("  photos: 100", f"  further_questions:\n    captions: {FILES}\n  photos: 100"))
    catalog, packaged = load(path), load()
    assert list(catalog.benchmark.questions) == ["", "captions"] and list(packaged.benchmark.questions) == [""]
    assert catalog.benchmark.further_questions["captions"].ranking_key is None
    assert catalog.benchmark.further_questions["captions"].prompt.is_file()
    elsewhere = catalog.model_copy(
        update={"benchmark": catalog.benchmark.model_copy(update={"further_questions": {
            "captions": catalog.benchmark.question.model_copy(update={"prompt": Path("/x"), "ranking_key": None}),
        }})}
    )  # fmt: skip
    assert catalog.hash == elsewhere.hash != packaged.hash


def test_the_image_that_is_tried_is_another_than_the_chosen_one_whoever_chose_that(tmp_path: Path) -> None:
    one, other = (f"e/e@sha256:{n * 64}" for n in "12")
    engine = Engine(image=one, candidate_image=other)
    assert engine.tried_image() == EngineImage(other, "engine.candidate_image of the catalog")
    assert engine.tried_image(f"mirror/{other}") is None, "LLAMA_ASSETS_ENGINE_IMAGE chose it: a digest is an image"
    assert engine.tried_image("e/e:latest") is not None, "what a tag means is not known"
    assert Engine(image=one).tried_image() is None
    shutil.copytree(PACKAGED.parent / "questions", tmp_path / "questions")

    def with_images(image: str, candidate: str) -> Catalog:
        said = f"engine:\n  image: {image}\n  candidate_image: {candidate}\n"
        (tmp_path / "models.yaml").write_text(PACKAGED.read_text().replace("engine:\n", said, 1))
        return load(tmp_path / "models.yaml")

    assert with_images(one, other).engine.candidate_image == other
    with pytest.raises(CatalogError, match="`candidate_image` names the image that is chosen already"):
        with_images(one, f"mirror/{one}")
    with pytest.raises(CatalogError, match=r"engine.candidate_image = 'e/e:latest': must be .*pinned by digest"):
        with_images(one, "e/e:latest")
    catalog = load()
    trying = catalog.model_copy(update={"engine": catalog.engine.model_copy(update={"candidate_image": one})})
    assert trying.hash != catalog.hash
