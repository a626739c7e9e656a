"""Our grammars under a real llama.cpp: whatever a model of noise samples is a valid answer."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from llama_assets import catalog
from llama_assets.bench.canary import PROBE_WORD, probe
from llama_assets.bench.question import Question, judge_answer
from llama_assets.demo.models import SMALL
from llama_assets.demo.networks import write_projector, write_text

pytest.importorskip("xllamacpp")

SERVER = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.mmproj.path, p.n_ctx, p.n_parallel = sys.argv[1], sys.argv[2], 4096, 1
p.port, p.cpuparams.n_threads, p.n_threads_http, p.cache_ram_mib = 0, 1, 8, 0
p.image_max_tokens, p.offline, p.ui, p.verbosity = 64, True, False, 0
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
EVERY_KIND = Question(
    prompt="Look.",
    schema={
        "type": "object",
        "$defs": {"tag": {"type": "string", "minLength": 2, "maxLength": 6}},
        "properties": {
            "maybe": {"type": ["boolean", "null"]},
            "score": {"type": "integer", "minimum": -37, "maximum": 1205},
            "share": {"type": "number"},
            "mood": {"enum": ["calm", 'a "q"', "é", 3]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3},
            "where": {"anyOf": [{"const": "nowhere"}, {"type": "object", "properties": {"x": {"type": "integer"}}}]},
        },
        "required": ["score", "mood", "tags", "where"],
        "additionalProperties": False,
    },
    ranking_key="score",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("tiny")
    write_text(folder / "m.gguf", "qwen3vl", SMALL, "F16", 1)
    write_projector(folder / "p.gguf", "qwen3vl", SMALL, "F16", 1)
    command = [sys.executable, "-c", SERVER, str(folder / "m.gguf"), str(folder / "p.gguf")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        address = child.stdout.readline().strip()
        assert address, "the server did not start"
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            yield client
        child.kill()


def ask(server: httpx.Client, question: Question, seed: int) -> str:
    jpeg = BytesIO()
    Image.effect_noise((64, 64), 10 + 40 * (seed % 3)).save(jpeg, "JPEG")
    image = "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
    content = [{"type": "text", "text": question.prompt}, {"type": "image_url", "image_url": {"url": image}}]
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": content}], "max_tokens": 1500, "grammar": question.grammar,
        "temperature": (0, 0.8, 1.6)[seed % 3], "seed": seed, "cache_prompt": False,
    }  # fmt: skip
    reply = server.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["finish_reason"] == "stop"
    return str(reply.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("name", ["packaged", "every kind", "probe"])
def test_every_answer_under_the_grammar_is_valid(server: httpx.Client, name: str) -> None:
    packaged = Question.load(catalog.load().benchmark.question)
    question = {"packaged": packaged, "every kind": EVERY_KIND, "probe": probe()}[name]
    answers = [ask(server, question, seed) for seed in range(15)]
    assert [judge_answer(answer, question).problems for answer in answers] == [()] * 15
    if name == "probe":
        assert {json.loads(answer)["word"] for answer in answers} == {PROBE_WORD}
    else:
        assert len(set(answers)) > 3
    if name == "packaged":
        assert all(list(json.loads(answer)) == list(packaged.schema["properties"]) for answer in answers)
