"""Vision networks with random weights as GGUF files that llama.cpp loads, sees with and gets JSON out of.

Here: the tensors and metadata of two kinds, Qwen3-VL (`qwen3vl` + `qwen3vl_merger`) and MiniCPM-V 4.5 (`qwen3` +
`resampler`), a few layers each. Not here: which repo holds what under which name (`models.py`).
What a loader insists on is named beside the line that satisfies it; it was learned from llama.cpp's own refusals
(src/models, tools/mtmd/clip.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["qwen3vl", "minicpmv"]
Precision = Literal["F16", "Q8_0", "Q4_K_M"]

BLOCK = 32  # quantized types pack this many neighbours of a row
HEAD = 32  # width of one attention head of the text network; llama.cpp pays for each head and each token before it
MERGE = 2  # Qwen3-VL joins 2 x 2 patches to one image token
CONTEXT = 32_768
RESERVED = 6  # channels of the text network that carry no noise: the constant, and five places in a phrase

# Byte tokens make every text writable, so any grammar can be followed one token at a time. The merges, learned from a
# page of plain English, make a prompt half as long. Ġ is GPT-2's blank.
LEARNED = (
    "Ġ+a Ġ+t Ġ+o Ġ+s h+o e+s Ġo+n Ġ+w Ġ+p Ġ+i Ġt+h Ġa+n Ġan+d r+e c+o Ġon+e t+h e+n Ġp+ho Ġpho+t Ġphot+o e+l a+t a+g "
    "Ġt+o Ġs+ho Ġ+f t+i o+n i+n c+t Ġw+i Ġwi+th Ġth+e Ġi+n Ġ+l Ġ+d u+n ti+on s+t r+i r+a o+u j+e je+ct e+r co+re "
    "b+ject a+r Ġw+h Ġth+i Ġthi+s Ġth+at Ġt+ra Ġtra+v Ġtrav+el Ġsho+w Ġshow+s Ġsho+r Ġshor+t Ġs+en Ġsen+t Ġsent+en "
    "Ġsenten+c Ġphoto+s Ġo+r Ġo+bject Ġl+i Ġli+g Ġlig+h Ġligh+t Ġi+t Ġi+m Ġim+ag Ġf+r Ġfr+o Ġfro+m Ġa+t Ġa+re Ġa+c "
    "Ġac+co Ġacco+un Ġaccoun+t Ġ+ho Ġ+e Ġ+J ĠJ+S ĠJS+O ĠJSO+N w+er s+wer s+i s+e s+core p+tion p+l o+th o+r o+o oo+k "
    "n+swer n+es l+y in+g i+v es+c esc+ri ar+y ag+s a+y a+c Y+ou A+nswer"
)
MERGES = tuple(pair.replace("+", " ") for pair in LEARNED.split())
CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",  # around an image in Qwen3-VL
    "<image>", "</image>", "<slice>", "</slice>",  # and in MiniCPM-V
)  # fmt: skip
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor -%}
{%- endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""

# Words by the place they have in a phrase: "quiet harbor", "narrow street before dawn". A phrase of tokens that may
# only follow each other this way cannot run on, and a report made of it can be read.
PHRASE = (
    "quiet bright misty narrow golden empty busy distant stormy weathered colourful snowy sunlit foggy rocky lonely",
    "harbor village bridge temple market valley beach street tower lake desert forest coast square station garden",
    "at in before after under near beyond above",
    "dawn dusk noon rain moonlight fog winter summer storms clouds neon snow haze sunshine starlight shade",
)
# The default question's keys and what stands around them, a token each: an answer is 60 tokens long and not 250.
# Every other question is answered in single characters.
FRAGMENTS = tuple(
    f'"{key}":'
    for key in (
        "aesthetic_score", "instagram_fit_score", "primary_subject", "scene_tags", "suggested_caption", "reasoning",
    )
)  # fmt: skip
# How likely each token is, as a logit beside the noise of the network (about 1.6).
LOGITS: Mapping[str, float] = {
    **dict.fromkeys("0123456789", 3.0), '"': 2.0, "}": 4.0, "]": 1.0, ",": 1.0, ":": 0.0,
    **dict.fromkeys(FRAGMENTS, 6.0),
    " ": -4.0, "{": -2.0, "[": -2.0, ".": -6.0, "-": -6.0, "+": -6.0, "E": -6.0, "\\": -20.0, "`": -20.0,
}  # fmt: skip
LETTER, NOT_ASCII, UNUSED = 0.0, -30.0, -60.0
FOLLOWS = 9.0  # what fits the phrase, over what does not


@dataclass(frozen=True)
class Size:
    """How large the network is: text layers and width, vision layers and width. Widths are multiples of 32."""

    layers: int
    width: int
    vision_layers: int
    vision_width: int


def write_text(path: Path, kind: Kind, size: Size, precision: Precision, seed: int) -> None:
    """Write the text network. Equal arguments give equal bytes (for one version of numpy and gguf)."""
    import gguf

    tokens = _tokens()
    out = _File(path, "qwen3vl" if kind == "qwen3vl" else "qwen3", precision, seed)
    writer, heads = out.writer, size.width // HEAD
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(size.width)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(2 * size.width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads // 2)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    if kind == "qwen3vl":
        writer.add_rope_dimension_sections([HEAD // 4, HEAD // 8, HEAD // 8, 0])  # must sum to half a head
        writer.add_num_deepstack_layers(1)  # as many as the projector has, or the pair is refused
    control = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in CONTROL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    _vocabulary(out, size, tokens)
    for layer in range(size.layers):
        _text_layer(out, f"blk.{layer}.", size.width, size.layers)
    out.close()


def write_projector(path: Path, kind: Kind, size: Size, precision: Precision, seed: int) -> None:
    """Write the vision network that belongs to the text network of the same kind and size."""
    out = _File(path, "clip", precision, seed + 1)
    writer, width = out.writer, size.vision_width
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_embedding_length(width)
    writer.add_vision_feed_forward_length(2 * width)
    writer.add_vision_block_count(size.vision_layers)
    writer.add_vision_head_count(2)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(True)
    if kind == "qwen3vl":
        _merger(out, size)
    else:
        _resampler(out, size)
    out.close()


class _File:
    """A GGUF file being written: seeded weights, each in the type that the precision asks for."""

    def __init__(self, path: Path, architecture: str, precision: Precision, seed: int) -> None:
        import gguf

        self.writer = gguf.GGUFWriter(str(path), architecture)
        self.random = np.random.default_rng(seed)
        types = gguf.LlamaFileType
        # Rows that are no multiple of 256 cannot be Q4_K; llama-quantize writes them as Q5_0, and so does this.
        stored = {"F16": "F16", "Q8_0": "Q8_0", "Q4_K_M": "Q5_0"}[precision]
        self.type = gguf.GGMLQuantizationType[stored]
        self.writer.add_name(f"random {architecture}")
        self.writer.add_description("random weights: it loads, it sees, it means nothing")
        self.writer.add_file_type(types[f"MOSTLY_{precision}"])
        self.writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0, keep: int = 0) -> None:
        """Random weights that keep the size of what goes through, times `gain`; the first `keep` outputs are 0."""
        from gguf import quants

        weights = self.noise(rows, columns) * (gain * columns**-0.5)
        weights[:keep] = 0
        if self.type.name != "F16" and columns % BLOCK == 0:
            self.writer.add_tensor(name, quants.quantize(weights, self.type), raw_dtype=self.type)
        else:
            self.half(name, weights)

    def linear(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        """A matrix and its bias of zeros."""
        self.matrix(f"{name}.weight", rows, columns, gain)
        self.exact(f"{name}.bias", np.zeros(rows))

    def norm(self, name: str, width: int) -> None:
        """A layer norm that does nothing but that."""
        self.exact(f"{name}.weight", np.ones(width))
        self.exact(f"{name}.bias", np.zeros(width))

    def exact(self, name: str, values: NDArray[Any]) -> None:
        """Values in 32 bits: norms, biases, positions, as converters leave them."""
        self.writer.add_tensor(name, values.astype(np.float32))

    def half(self, name: str, values: NDArray[Any]) -> None:
        """Values in 16 bits, whatever the precision: what stands alone in its block, and convolutions."""
        self.writer.add_tensor(name, values.astype(np.float16))

    def noise(self, *shape: int) -> NDArray[np.float32]:
        """Standard normal values, the next of the seed."""
        return self.random.standard_normal(shape, dtype=np.float32)

    def close(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def _tokens() -> list[str]:
    """256 bytes in GPT-2's printable alphabet, merges, words, fragments, control tokens; a multiple of the block."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    tokens = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    tokens += [merge.replace(" ", "") for merge in MERGES]
    tokens += [*_words(0), *_words(1), *_words(2), *_words(3), *FRAGMENTS, *CONTROL]
    tokens = list(dict.fromkeys(tokens))  # a word may be a merge as well; a token that is there twice is refused
    return [*tokens, *(f"<unused{number}>" for number in range(-len(tokens) % BLOCK))]


def _words(place: int) -> list[str]:
    """The tokens of one place in a phrase; no phrase begins with a blank."""
    return [word if place == 0 else f"Ġ{word}" for word in PHRASE[place].split()]


def _vocabulary(out: _File, size: Size, tokens: list[str]) -> None:
    """Embedding and output, where the reserved channels live that no layer writes to.

    Channel 0 is one constant for every token, so column 0 of the output is a bias a token. Channel 1 + k marks that the
    last token ends place k of a phrase (0: a quote or a line has been opened), and says which tokens may follow.
    """
    number = {token: index for index, token in enumerate(tokens)}
    quote, end = number['"'], number["<|im_end|>"]
    places = [[quote, number["Ċ"]], *([number[word] for word in _words(place)] for place in range(len(PHRASE)))]
    constant, marked = 8.0, 8.0
    embedding = out.noise(len(tokens), size.width)
    # Where a score or the next tag is decided, little is heard of the last token itself, so that the photo is.
    embedding[[quote, *(number[fragment] for fragment in FRAGMENTS)]] *= 0.2
    embedding[:, :RESERVED] = 0
    embedding[:, 0] = constant
    for place, members in enumerate(places):
        embedding[members, 1 + place] = marked
    out.half("token_embd.weight", embedding)
    out.exact("output_norm.weight", np.ones(size.width))

    logits = np.full(len(tokens), UNUSED)
    logits[:256] = NOT_ASCII
    logits[32:127] = LETTER
    for members in places[1:]:
        logits[members] = -FOLLOWS / 2
    for token, logit in LOGITS.items():
        logits[number.get(token, ord(token[0]))] = logit
    logits[number["Ġ"]], logits[end] = LOGITS[" "], LOGITS['"']
    # What the layers add is a guess; the logits only have to come out roughly as they are written.
    scale = constant / np.sqrt((constant**2 + marked**2 + 2.5 * size.width) / size.width)
    weights = out.noise(len(tokens), size.width) * (1.6 * size.width**-0.5)
    outside = [number[mark] for mark in "0123456789,]"]
    weights[outside] *= 2.5  # scores and the number of tags are to differ from photo to photo
    weights[:, :RESERVED] = 0
    weights[:, 0] = logits / scale
    weights[outside, 1:RESERVED] = -3 * FOLLOWS / scale  # ... and are no part of a phrase
    for place, members in enumerate(places[1:]):
        weights[members, 1 + place] = 1.5 * FOLLOWS / scale
    for place, complete in enumerate(
        (False, False, True, False, True)
    ):  # a noun may end the phrase, the last word does
        weights[[quote, end], 1 + place] = (FOLLOWS if complete else -2 * FOLLOWS) / scale
    out.half("output.weight", weights)


def _text_layer(out: _File, layer: str, width: int, layers: int) -> None:
    half, rest = width // 2, (2 * layers) ** -0.5  # so that the sum of all layers is as large for any number of them
    out.exact(layer + "attn_norm.weight", np.ones(width))
    out.matrix(layer + "attn_q.weight", width, width)
    out.matrix(layer + "attn_k.weight", half, width)
    out.matrix(layer + "attn_v.weight", half, width)
    out.exact(layer + "attn_q_norm.weight", np.full(HEAD, 1.5))
    out.exact(layer + "attn_k_norm.weight", np.ones(HEAD))
    # Attention over a hundred image tokens averages them away; the gain lets a photo be felt in the answer.
    out.matrix(layer + "attn_output.weight", width, width, gain=3.0 * rest, keep=RESERVED)
    out.exact(layer + "ffn_norm.weight", np.ones(width))
    out.matrix(layer + "ffn_gate.weight", 2 * width, width)
    out.matrix(layer + "ffn_up.weight", 2 * width, width)
    out.matrix(layer + "ffn_down.weight", width, 2 * width, gain=rest, keep=RESERVED)


def _merger(out: _File, size: Size, patch: int = 16, side: int = 8) -> None:
    """Qwen3-VL's projector with one deepstack layer."""
    writer, width, merged = out.writer, size.vision_width, size.vision_width * MERGE**2
    writer.add_clip_projector_type("qwen3vl_merger")
    writer.add_vision_image_size(patch * side)
    writer.add_vision_patch_size(patch)
    writer.add_vision_projection_dim(size.width)
    writer.add_vision_spatial_merge_size(MERGE)
    writer.add_vision_is_deepstack_layers([layer == 0 for layer in range(size.vision_layers)])
    for frame in ("v.patch_embd.weight", "v.patch_embd.weight.1"):  # both, although a photo has one frame
        out.half(frame, out.noise(width, 3, patch, patch) * (4 * (3 * patch * patch) ** -0.5))
    out.exact("v.patch_embd.bias", np.zeros(width))
    out.exact("v.position_embd.weight", out.noise(side * side, width) * 0.1)  # the rows must be a square number
    out.norm("v.post_ln", width)
    for layer in range(size.vision_layers):
        block = f"v.blk.{layer}."
        out.norm(block + "ln1", width)
        out.norm(block + "ln2", width)
        out.linear(block + "attn_qkv", 3 * width, width)
        out.linear(block + "attn_out", width, width)
        out.linear(block + "ffn_up", 2 * width, width)
        out.linear(block + "ffn_down", width, 2 * width)
    out.norm("v.deepstack.0.norm", merged)
    out.linear("v.deepstack.0.fc1", merged, merged)
    out.linear("v.deepstack.0.fc2", size.width, merged)
    out.linear("mm.0", merged, merged)
    out.linear("mm.2", size.width, merged, gain=4.0)


def _resampler(out: _File, size: Size, patch: int = 14, image: int = 224, queries: int = 32) -> None:
    """MiniCPM-V 4.5's projector; the text width must be a multiple of 128 (clip.cpp fixes the head size)."""
    writer, width, projected = out.writer, size.vision_width, size.width
    writer.add_clip_projector_type("resampler")
    writer.add_int32("clip.minicpmv_version", 6)
    writer.add_uint32("clip.minicpmv_query_num", queries)
    writer.add_vision_image_size(image)
    writer.add_vision_patch_size(patch)
    writer.add_vision_projection_dim(0)
    out.half("v.patch_embd.weight", out.noise(width, 3, patch, patch) * (4 * (3 * patch * patch) ** -0.5))
    out.exact("v.patch_embd.bias", np.zeros(width))
    out.exact("v.position_embd.weight", out.noise(70 * 70, width) * 0.1)  # 70 x 70 places, fixed in clip.cpp
    out.norm("v.post_ln", width)
    for layer in range(size.vision_layers):
        block = f"v.blk.{layer}."
        out.norm(block + "ln1", width)
        out.norm(block + "ln2", width)
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            out.linear(block + part, width, width)
        out.linear(block + "ffn_up", 2 * width, width)
        out.linear(block + "ffn_down", width, 2 * width)
    out.exact("resampler.query", out.noise(queries, projected))  # 16 bits load, and abort at the first image
    out.half("resampler.pos_embed_k", out.noise(queries, projected))  # must be there, is not used
    out.matrix("resampler.kv.weight", projected, width)
    out.matrix("resampler.proj.weight", projected, projected, gain=4.0)
    for part in ("q", "k", "v", "out"):
        out.linear(f"resampler.attn.{part}", projected, projected)
    for part in ("q", "kv", "post"):
        out.norm(f"resampler.ln_{part}", projected)
