"""Shapes of the models that are timed, and what a step of them reads and computes. Knows no engine and no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of the Llama kind: C, L, H, K, F, V of the house's letters."""

    like: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool
    family: str = "llama"
    """Or qwen2: biases on queries, keys and values."""

    @property
    def head_width(self) -> int:
        """D."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """KD."""
        return self.kv_heads * self.head_width

    @property
    def layer_weights(self) -> int:
        """Elements of the seven matrices of a layer."""
        return 2 * self.width * self.width + 2 * self.width * self.kv_width + 3 * self.width * self.inner

    @property
    def head_weights(self) -> int:
        """Elements of the matrix that makes logits; where it is tied, it is the embedding too."""
        return self.vocabulary * self.width


SHAPES: Mapping[str, Shape] = {
    "A": Shape("stories15M", 288, 6, 6, 6, 768, 32_000, True),
    "B": Shape("SmolLM2-135M", 576, 30, 9, 3, 1536, 49_152, True),
    "C": Shape("Qwen2.5-0.5B", 896, 24, 14, 2, 4864, 151_936, True, "qwen2"),
    "D": Shape("TinyLlama-1.1B", 2048, 22, 32, 4, 5632, 32_000, False),
}


def weights_read(shape: Shape) -> int:
    """Elements of all matrices that a step of decoding reads; an untied embedding gives one row only."""
    return shape.layers * shape.layer_weights + shape.head_weights


def decode_bytes(shape: Shape, place: float, weight_width: int, cache_width: int) -> float:
    """Bytes read to decode the token at that place: all matrices, and the keys and values of what stands before it.

    `weight_width`, `cache_width`: bytes of an element. Norms, biases and activations are left out.
    """
    return weights_read(shape) * weight_width + 2 * shape.layers * shape.kv_width * place * cache_width


def attention_flops(shape: Shape, tokens: int) -> int:
    """Of both products of causal attention over a text from its start: each token sees itself and those before it."""
    return shape.layers * shape.heads * 4 * shape.head_width * tokens * (tokens + 1) // 2


def prefill_flops(shape: Shape, tokens: int, rows: int = 1) -> int:
    """Multiplications and additions of a prefill: layers for all tokens, logits for `rows` of them, and attention."""
    layers = 2 * shape.layers * shape.layer_weights * tokens
    return layers + 2 * shape.head_weights * rows + attention_flops(shape, tokens)


def step_flops(shape: Shape) -> int:
    """Of all matrices for one token of decoding; attention is left out."""
    return 2 * weights_read(shape)
