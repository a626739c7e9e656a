"""Which files a catalog entry means: by whole token or exact name, never by order, and errors list what there is."""

import itertools

import pytest

from llama_assets.catalog import Model
from llama_assets.hub import Ambiguous, FileNotFound, Hub, SplitIncomplete
from llama_assets.hub.selection import Listed, select

COMMIT = "c" * 40


def listed(*paths: str) -> list[Listed]:
    return [Listed(path, 1_000_000 * (index + 1), f"{index:064x}") for index, path in enumerate(paths)]


def chosen(paths: list[str], **names: str) -> list[str]:
    """The paths selected, whatever order the repo lists its files in."""
    model = Model(id="m", repo="org/m-GGUF", **({"quant": "Q4_K_M"} if "file" not in names else {}), **names)
    answers = {tuple(f.path for f in select(model, order, COMMIT)) for order in itertools.permutations(listed(*paths))}
    assert len(answers) == 1
    return list(answers.pop())


@pytest.mark.parametrize(
    ("paths", "projector"),
    [
        (["mmproj-Qwen3VL-8B-Instruct-F16.gguf", "mmproj-Qwen3VL-8B-Instruct-Q8_0.gguf"], 0),
        (["mmproj-model-f16.gguf"], 0),
        (["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"], 1),
        (["m.mmproj-fp16.gguf", "m.mmproj-Q8_0.gguf"], 0),
        (["vision/mmproj_bf16.gguf", "vision/mmproj_f16.gguf"], 1),
    ],
)
def test_the_projector_of_the_named_precision_is_found_in_any_case_and_f16_is_not_bf16(
    paths: list[str], projector: int
) -> None:
    assert chosen(["m-Q4_K_M.gguf", *paths], mmproj="F16") == ["m-Q4_K_M.gguf", paths[projector]]


@pytest.mark.parametrize(
    "others",
    [
        ["m-Q4_K_S.gguf", "m-UD-Q4_K_M.gguf", "m-IQ4_XS.gguf"],
        ["m.i1-Q4_K_M.gguf", "m-Q4_K_M_L.gguf"],
        ["m-imatrix-Q4_K_M.gguf", "mtp-m-Q4_K_M.gguf", "m-eagle3-Q4_K_M.gguf"],
        ["Q4_K_M-notes.gguf", "imatrix.gguf"],
    ],
)
def test_the_quantization_must_be_the_whole_last_token_of_the_name(others: list[str]) -> None:
    for name in ("m-Q4_K_M.gguf", "m.q4_k_m.gguf", "ggml-model-Q4_K_M.gguf", "sub/m_Q4_K_M.gguf"):
        assert chosen([name, *others, "mmproj-F16.gguf"], mmproj="F16")[0] == name


@pytest.mark.parametrize("quant", ["UD-Q4_K_XL", "ud-q4_k_xl", "i1-Q4_K_M", "IQ2_XXS", "MXFP4_MOE", "BF16", "TQ1_0"])
def test_prefixes_and_rare_quantizations_can_be_named(quant: str) -> None:
    names = ("UD-Q4_K_XL", "Q4_K_XL", "i1-Q4_K_M", "Q4_K_M", "IQ2_XXS", "MXFP4_MOE", "BF16", "F16", "TQ1_0")
    files = listed(*(f"m-{name}.gguf" for name in names), "mmproj-F16.gguf")
    model = Model(id="m", repo="org/m", quant=quant, mmproj="F16")
    assert select(model, files, COMMIT)[0].path.lower() == f"m-{quant.lower()}.gguf"


def test_an_exact_name_wins_over_every_rule_about_names() -> None:
    paths = ["m-Q4_K_M.gguf", "m-imatrix-Q4_K_M.gguf", "mmproj-F16.gguf", "projector.gguf"]
    assert chosen(paths, file="m-imatrix-Q4_K_M.gguf", mmproj_file="projector.gguf") == [paths[1], paths[3]]


def test_all_parts_of_a_split_file_are_selected_in_order() -> None:
    parts = [f"Q4_K_M/m-Q4_K_M-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    repo = [parts[2], "mmproj-F16.gguf", parts[0], parts[1]]
    assert chosen(repo, mmproj="F16") == [*parts, "mmproj-F16.gguf"]
    assert chosen(repo, file=parts[0], mmproj="F16") == [*parts, "mmproj-F16.gguf"]
    model = Model(id="m", repo="org/m", quant="Q4_K_M", mmproj="F16")
    assert [(f.role, f.part, f.parts) for f in select(model, listed(*repo), COMMIT)] == [
        ("model", 1, 3), ("model", 2, 3), ("model", 3, 3), ("mmproj", 1, 1),
    ]  # fmt: skip


def test_a_split_file_without_all_parts_is_refused_and_the_missing_ones_are_numbered() -> None:
    with pytest.raises(SplitIncomplete, match="split in 4 and part 2, 4 is missing: wait until its upload is done"):
        chosen(["m-Q4_K_M-00001-of-00004.gguf", "m-Q4_K_M-00003-of-00004.gguf", "mmproj-F16.gguf"], mmproj="F16")


def test_nothing_that_fits_lists_what_there_is_with_quantization_and_size() -> None:
    with pytest.raises(FileNotFound) as caught:
        chosen(["m-Q8_0.gguf", "renamed.gguf", "mmproj-F16.gguf"], mmproj="F16")
    assert [(c.path, c.quant) for c in caught.value.candidates] == [("m-Q8_0.gguf", "Q8_0"), ("renamed.gguf", None)]
    sentence = str(caught.value)
    assert "no model file of quantization Q4_K_M in org/m-GGUF at ccccccc" in sentence
    assert "may have been renamed; name one of these by `file`" in sentence
    assert "renamed.gguf  quant not in the name  0.00 GB" in sentence


def test_a_repo_without_projectors_says_so() -> None:
    with pytest.raises(FileNotFound, match=r"no vision projector of quantization F16 .*`mmproj_file`"):
        chosen(["m-Q4_K_M.gguf"], mmproj="F16")


def test_several_that_fit_are_listed_and_none_is_taken() -> None:
    with pytest.raises(
        Ambiguous, match=r"more than one model file of quantization Q4_K_M .*name one by `file`"
    ) as caught:
        chosen(["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "mmproj-F16.gguf"], mmproj="F16")
    assert [candidate.path for candidate in caught.value.candidates] == ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"]
    with pytest.raises(Ambiguous, match="`mmproj_file`"):
        chosen(["m-Q4_K_M.gguf", "mmproj-a-F16.gguf", "mmproj-b-F16.gguf"], mmproj="F16")


def test_the_seeds_models_are_found_under_their_real_names(hub: Hub, qwen: Model, minicpm: Model) -> None:
    assert [f.path for f in hub.resolve(qwen).files] == [
        "Qwen3VL-8B-Instruct-Q4_K_M.gguf", "mmproj-Qwen3VL-8B-Instruct-F16.gguf",
    ]  # fmt: skip
    assert [f.path for f in hub.resolve(minicpm).files] == ["MiniCPM-V-4_5-Q4_K_M.gguf", "mmproj-model-f16.gguf"]
