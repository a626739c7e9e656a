"""Why an arm cannot work, in words: a fixture of each cause, and transcripts that must not be taken for one."""

import json

import pytest

from llama_assets.bench import Arm, Holding, begin, prepare, run
from llama_assets.bench.canary import UNKNOWN, CanaryLimits, Served, examine, request
from llama_assets.bench.causes import build_number, of_answer, of_load, too_old
from llama_assets.demo.photos import draw_photos

from .driven import QUESTION, CannotLoad, DrivenClock, DrivenEngine, Reply, comparison

GOOD = json.dumps({"score": 7})
ASKED = request(QUESTION, b"jpeg", 100, 30.0)


def saw(warm_up: Reply, served: Served = UNKNOWN, probed: str = '{"word": "vexilquorn-83", "number": 83}'):
    return examine(warm_up, ASKED, lambda ask: Reply(text=probed), QUESTION, CanaryLimits(), served)


@pytest.mark.parametrize(
    ("warm_up", "served", "cause", "words"),
    [
        (Reply(text=GOOD), Served("qwen35", "b9879"), "engine_too_old", "architecture qwen35 needs b10450"),
        (Reply(text='{"said": "There is no image provided."}'), UNKNOWN, "projector", "sees no photo"),
        (Reply(text='{"said": "I cannot see the photo."}'), UNKNOWN, "projector", "sees no photo"),
        (Reply(text='{"said": "\ufffd\ufffd\ufffd ab\ufffd\ufffd"}'), UNKNOWN, "broken", "it answers garbage"),
        (Reply(text="@" * 90), UNKNOWN, "broken", "a broken quant, or an engine too old"),
        (Reply(text=GOOD, generation_seconds=60.0), UNKNOWN, "offload", "are all its layers on the GPU?"),
        (Reply(text="", completion_tokens=400), UNKNOWN, "thinking", "its answer is empty after 400 tokens"),
    ],
)
def test_what_is_seen_at_sight_is_named(warm_up, served, cause, words):
    found = saw(warm_up, served)
    assert found.cause == cause and words in found.reason and not found.passed


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("load_tensors: offloaded 37/37 layers to GPU\nload_tensors: offloaded 3/37 layers to GPU\n", "offloaded 3/37"),
        ("warning: no usable GPU found, --gpu-layers option will be ignored\n", "no usable GPU found"),
        ("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device\n", "failed to initialize CUDA: no CUDA"),
    ],
)
def test_a_slow_arm_is_told_with_what_its_engine_says_of_the_gpu(log, told):
    slow = saw(Reply(text=GOOD, generation_seconds=60.0), Served(log=log))
    assert slow.cause == "offload" and f"its engine says: {told}" in slow.reason
    fast = saw(Reply(text=GOOD), Served(log=log))
    assert fast.passed and fast.gpu.startswith(told), "a person may want it so, and it is written down"


def test_an_answer_without_end_that_repeats_itself_is_a_broken_one():
    looping = Reply(text='{"tags": [' + '"sea", ' * 40, finish_reason="length")
    found = examine(looping, ASKED, lambda ask: looping, QUESTION, CanaryLimits())
    assert found.cause == "broken" and "told" in found.reason
    long = Reply(text='{"score": 7', finish_reason="length")
    assert examine(long, ASKED, lambda ask: long, QUESTION, CanaryLimits()).cause == "length"


def test_a_schema_that_is_not_held_is_the_engines_doing():
    assert saw(Reply(text=GOOD), probed="A pier.").cause == "schema"


def shown(*replies: Reply):
    """What the canary found with these answers to its two pictures."""
    left = list(replies)

    def ask(what):
        return left.pop(0) if what.logprobs else Reply(text='{"word": "vexilquorn-83", "number": 83}')

    return examine(Reply(text=GOOD), ASKED, ask, QUESTION, CanaryLimits())


def chances(*changed: float, text: str = "Red") -> Reply:
    words = ("Red", "Blue", "The", "Grey", "It")
    told = [-0.5 - n + change for n, change in enumerate([*changed, *[0.0] * (5 - len(changed))])]
    return Reply(text=text, first_tokens=tuple(zip(words, told, strict=True)))


def test_pictures_that_change_nothing_do_not_reach_the_model():
    found = shown(chances(), chances(1e-6))
    assert found.cause == "projector" and found.reason.startswith("the picture does not reach the model")
    assert found.sight.reached is False and found.sight.words == ("Red", "Red")


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param((chances(), chances(0.01)), id="a weak model that calls both red"),
        pytest.param((chances(), Reply(text="Blue")), id="one of them without chances"),
        pytest.param((Reply(text="Red"), Reply(text="Red")), id="an engine that does not tell chances"),
        pytest.param(2 * (Reply(text="<", first_tokens=(("<", 0.0), ("a", -90.0), ("b", -91.0))),), id="one way on"),
        pytest.param((chances(), Reply(status="timeout", error="timeout: 5 s")), id="a slow one"),
        pytest.param(2 * (Reply(status="error", error="rejected: no logprobs here"),), id="an engine that refuses"),
    ],
)
def test_an_arm_is_not_ended_by_what_proves_nothing(replies):
    assert shown(*replies).passed


def test_the_canary_takes_less_than_a_minute():
    asked = []

    def ask(what):
        asked.append(what.timeout_s)
        return Reply(text=GOOD)

    slow = request(QUESTION, b"jpeg", 100, 600.0)
    examine(Reply(text=GOOD, finish_reason="length"), slow, ask, QUESTION, CanaryLimits())
    assert len(asked) == 4 and sum(asked) <= 60.0


@pytest.mark.parametrize(
    "said",
    [
        "A quiet photo of a pier without any people in the image.",
        "Not a single cloud in the sky.",
        "The picture shows no text.",
        "You cannot see the end of the pier.",
        "Une photo sans personne, très calme.",
        "桟橋の写真。人はいません。",
        "A very good image, not given to drama.",
    ],
)
def test_captions_that_speak_of_photos_are_not_taken_for_blindness(said):
    assert of_answer(json.dumps({"caption": said, "tags": ["sea", "pier"], "score": 7})) is None


@pytest.mark.parametrize(
    ("build", "number"), [("b11669-Debian", 11669), ("b9879", 9879), ("10450 (4f2a)", 10450), ("b0-unknown", None)]
)
def test_a_builds_number_is_read_from_what_engines_say(build, number):
    assert build_number(build) == number


def test_only_what_is_known_to_be_too_old_is():
    assert too_old("qwen3vl", "b6887") is None and "b6886" in too_old("qwen3vl", "b6886")
    assert too_old("qwen3vl", None) is None and too_old("qwen9", "b1000") is None and too_old(None, "b1000") is None


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("error loading model architecture: unknown model architecture: 'qwen35'", "engine_too_old"),
        (
            "mtmd_init_from_file: error: mismatch between text model (n_embd = 64) and mmproj (n_embd = 128)",
            "projector",
        ),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9670.00 MiB: cudaMalloc failed: out of memory",
            "memory",
        ),
        ("gguf_init_from_file: invalid magic characters", "files"),
    ],
)
def test_a_servers_last_words_name_the_cause(said, cause):
    assert of_load(f"model b could not be loaded: exited; it said last:\n{said}")[0] == cause
    assert of_load("exited with status 1") is None


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    album = tmp_path_factory.mktemp("album")
    draw_photos(album, 4)
    with prepare(album, 4, 1, print) as prepared:
        yield prepared


def ended(tmp_path, photos, engine_of):
    """How arm b ended, with an engine that is told what to do."""
    time = DrivenClock()
    engine = engine_of(time)
    arms = tuple(Arm(model, f"f-{model}", "F16", {"architecture": "qwen35"}) for model in ("a", "b"))
    compared = comparison(photos, ("a", "b"), blocks=2, arms=arms)
    folder = begin(tmp_path, compared, print, time.clock).folder
    run(folder, compared, engine, Holding(), print, clock=time.clock)
    record = json.loads((folder / "session.json").read_text())
    return {
        model: (arm["ended"], arm["ended_by"], (arm["canary"] or {}).get("cause"))
        for model, arm in record["arms"].items()
    }


def test_an_arm_ends_with_its_cause_in_words_and_the_others_go_on(tmp_path, photos):
    refused = Reply("error", 0.1, finish_reason=None, error="engine_error: image input is not supported - hint: mmproj")

    def blind(time):
        return DrivenEngine(time, answer=lambda model, n: refused if model == "b" else '{"score": 3}')

    found = ended(tmp_path / "blind", photos, blind)
    assert found["a"] == (None, None, None)
    why, by, cause = found["b"]
    assert (by, cause) == ("canary", "projector") and why.startswith("it is served without a projector")

    class Mismatched(DrivenEngine):
        def load(self, model):
            if model == "b":
                raise CannotLoad("exited; it said last:\nerror: mismatch between text model (n_embd = 64) and mmproj")
            return super().load(model)

    why, by, _ = ended(tmp_path / "mismatched", photos, Mismatched)["b"]
    assert by == "load" and why.startswith("the projector belongs to another model; it could not be loaded: exited")
    old = ended(tmp_path / "old", photos, lambda time: DrivenEngine(time, build="b9879"))
    assert old["a"] == old["b"] and old["b"][1:] == ("canary", "engine_too_old")
