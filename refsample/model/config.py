"""config.json and generation_config.json of a model folder as one frozen record. It knows nothing of weights.

A value that refsample does not run is an UnsupportedModelError that names it, as is a setting that it does not know;
two that contradict each other are a MismatchError. What a config leaves out has transformers' default for its family.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from refsample.errors import MismatchError, UnsupportedModelError, shorten
from refsample.files import read_json_object
from refsample.model.families import ACTIVATIONS, Activation, Family
from refsample.model.layers import ropes, sparse, windows
from refsample.model.reading import Reader, token_ids
from refsample.model.rope import RopeSettings
from refsample.model.rope_config import rope_settings

_MOST_LAYERS = 10_000
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts, as the config describes it."""

    count: int
    """E."""
    per_token: int
    """Experts that each token goes through."""
    width: int
    """X: what F is for one expert."""
    normalise: bool
    """The shares of the chosen ones are made to sum to 1."""
    layers: tuple[bool, ...]
    """Which layers have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes and switches of a model; letters are those of the design."""

    model_type: str
    vocab_size: int
    """V: rows of the embedding; the tokenizer may have fewer."""
    layers: int
    width: int
    """C."""
    heads: int
    """H, query heads."""
    kv_heads: int
    """K, key/value heads; H is a multiple of it."""
    head_width: int
    """D, even where there is a rotary embedding; H times D need not be C."""
    feed_forward: int
    """F."""
    max_position: int
    """Longest context in tokens."""
    norm_eps: float
    activation: Activation
    tied: bool
    """The head is the embedding."""
    attention_bias: bool
    mlp_bias: bool
    parallel: bool
    """Attention and feed-forward of a block read the same x."""
    ropes: tuple[RopeSettings, ...]
    """None for learned positions; else those of layers without a window of their own, then those with one."""
    layer_ropes: tuple[int | None, ...]
    """For each layer, which of `ropes`; None: it turns nothing."""
    windows: tuple[int | None, ...]
    """For each layer, how many keys it sees, a row's own among them; None: all."""
    experts: Experts | None
    attention_scales: tuple[float, ...]
    """For each layer, the factor on q.k."""
    attention_cap: float | None
    """Soft cap of attention scores; `final_cap` that of logits."""
    final_cap: float | None
    embedding_scale: float
    residual_scale: float
    """Factor on what a block adds."""
    logits_scale: float
    """Logits are divided by it."""
    dtype: str | None
    """Type that the config says the weights have; None where it says nothing."""
    bos_token_id: int | None
    """The first one, where the config gives a list."""
    eos_token_ids: tuple[int, ...]
    """Every id that ends a text, ascending, from both files."""
    family: Family = field(repr=False)
    """The row of the table of families."""

    @property
    def rope(self) -> RopeSettings | None:
        """Rotary settings of the layers without a window of their own; None for learned positions."""
        return self.ropes[0] if self.ropes else None

    def size(self, letters: str) -> int:
        """Product of the sizes that the letters V C H K D F P E X stand for."""
        sizes = {"V": self.vocab_size, "C": self.width, "H": self.heads, "K": self.kv_heads, "D": self.head_width}
        sizes |= {"F": self.feed_forward, "P": self.max_position}
        if self.experts is not None:
            sizes |= {"E": self.experts.count, "X": self.experts.width}
        product = 1
        for letter in letters:
            product *= sizes[letter]
        return product


def read_config(folder: Path) -> ModelConfig:
    """The config of a folder. MissingFileError, CorruptFileError, MismatchError or UnsupportedModelError."""
    path = folder / "config.json"
    raw = read_json_object(path)
    reader = Reader(raw, path)
    _refuse_quantised(reader)
    family, layers = reader.family, _layers(reader)
    heads, width = reader.size("num_attention_heads"), reader.size("hidden_size")
    head_width = _head_width(reader, heads, width)
    vocab_size = reader.size("vocab_size")
    turns = rope_settings(reader, head_width) if family.rotary else ()
    seen = windows(reader, layers)
    config = ModelConfig(
        model_type=family.model_type,
        vocab_size=vocab_size,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_kv_heads(reader, heads),
        head_width=head_width,
        feed_forward=_feed_forward(reader, width),
        max_position=_context(reader, turns),
        norm_eps=reader.needed("rms_norm_eps"),
        activation=_activation(reader),
        tied=reader.switch("tie_word_embeddings"),
        attention_bias=reader.switch("attention_bias"),
        mlp_bias=reader.switch("mlp_bias"),
        parallel=family.parallel if isinstance(family.parallel, bool) else reader.switch(family.parallel),
        ropes=turns,
        layer_ropes=ropes(reader, seen, layers),
        windows=seen,
        experts=_experts(reader, layers),
        attention_scales=_attention_scales(reader, head_width, layers),
        attention_cap=reader.number("attn_logit_softcapping"),
        final_cap=reader.number("final_logit_softcapping"),
        embedding_scale=width**0.5
        if family.defaults.get("scale_embeddings")
        else reader.needed("embedding_multiplier", 1.0),
        residual_scale=reader.needed("residual_multiplier", 1.0),
        logits_scale=reader.needed("logits_scaling", 1.0),
        dtype=_dtype(reader),
        bos_token_id=next(iter(reader.ids("bos_token_id", vocab_size)), None),
        eos_token_ids=_eos(reader, vocab_size),
        family=family,
    )
    reader.finish()
    return config


def _layers(reader: Reader) -> int:
    layers, own = reader.size("num_hidden_layers"), reader.own("num_hidden_layers")
    if layers > _MOST_LAYERS:
        raise UnsupportedModelError(f"{reader.path}: {own}={layers} is not run: at most {_MOST_LAYERS}")
    return layers


def _refuse_quantised(reader: Reader) -> None:
    if reader.given("quantization_config"):
        method = reader.raw["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        said = f"quantization_config ({shorten(method)}): quantised weights are not run"
        raise UnsupportedModelError(f"{reader.path}: {said}")


def _head_width(reader: Reader, heads: int, width: int) -> int:
    head_width = reader.count("head_dim")
    if head_width is None:
        if width % heads:
            own, total = reader.own("num_attention_heads"), reader.own("hidden_size")
            raise MismatchError(f"{reader.path}: {total}={width} is no multiple of {own}={heads}")
        head_width = width // heads
    if head_width % 2 and reader.family.rotary:
        raise UnsupportedModelError(f"{reader.path}: head_dim={head_width} is odd, rotary pairs need an even width")
    return head_width


def _kv_heads(reader: Reader, heads: int) -> int:
    if reader.knows("multi_query"):  # Falcon's older blocks: one key/value head or as many as there are query heads
        reader.value("num_key_value_heads")
        return 1 if reader.switch("multi_query") else heads
    kv_heads = reader.count("num_key_value_heads") or heads
    if heads % kv_heads:
        names = reader.own("num_attention_heads"), reader.own("num_key_value_heads")
        raise MismatchError(f"{reader.path}: {names[0]}={heads} is no multiple of {names[1]}={kv_heads}")
    return kv_heads


def _feed_forward(reader: Reader, width: int) -> int:
    own = reader.own("intermediate_size")
    if reader.family.inner and reader.given(own) is None:
        return reader.family.inner * width
    return reader.size("intermediate_size")


def _context(reader: Reader, turns: tuple[RopeSettings, ...]) -> int:
    """Dynamic scaling exists to go beyond max_position_embeddings, by its factor."""
    context = reader.needed_count("max_position_embeddings")
    stretch = turns[0].factor if turns and turns[0].kind == "dynamic" else None
    return context if stretch is None else int(context * stretch)


def _activation(reader: Reader) -> Activation:
    name = reader.value("hidden_act")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        own, known = reader.own("hidden_act"), ", ".join(sorted(ACTIVATIONS))
        raise UnsupportedModelError(f"{reader.path}: {own}={shorten(name)} is not run ({known})")
    return ACTIVATIONS[name]


def _attention_scales(reader: Reader, head_width: int, layers: int) -> tuple[float, ...]:
    """1 / sqrt D, or what the family has instead."""
    if reader.knows("query_pre_attn_scalar"):
        scale = reader.needed("query_pre_attn_scalar") ** -0.5
    elif reader.knows("attention_multiplier"):
        scale = reader.needed("attention_multiplier")
    else:
        scale = head_width**-0.5
    if not reader.switch("scale_attn_weights", True):
        scale = 1.0
    if reader.switch("scale_attn_by_inverse_layer_idx"):
        return tuple(scale / (n + 1) for n in range(layers))
    return (scale,) * layers


def _experts(reader: Reader, layers: int) -> Experts | None:
    where = sparse(reader, layers)
    if reader.family.experts is None:
        return None
    count, chosen = reader.needed_count("num_experts"), reader.needed_count("num_experts_per_tok")
    if chosen > count:
        own = reader.own("num_experts")
        raise MismatchError(f"{reader.path}: num_experts_per_tok={chosen} of {own}={count}")
    apart = reader.knows("moe_intermediate_size")
    width = reader.needed_count("moe_intermediate_size") if apart else reader.size("intermediate_size")
    return Experts(count, chosen, width, reader.switch("norm_topk_prob"), where)


def _eos(reader: Reader, vocab_size: int) -> tuple[int, ...]:
    ids = set(reader.ids("eos_token_id", vocab_size))
    other = reader.path.with_name("generation_config.json")
    ids |= set(token_ids(read_json_object(other, optional=True), "eos_token_id", other, vocab_size))
    return tuple(sorted(ids))


def _dtype(reader: Reader) -> str | None:
    value = reader.given("dtype", "torch_dtype")
    if value is None:
        return None
    other = reader.raw.get("torch_dtype")
    if other not in (None, value):
        said = f"dtype={shorten(value)} and torch_dtype={shorten(other)}"
        raise MismatchError(f"{reader.path}: {said} contradict each other")
    name = str(value).removeprefix("torch.")
    if name not in _DTYPES:
        own = "torch_dtype" if reader.raw.get("dtype") is None else "dtype"
        raise UnsupportedModelError(f"{reader.path}: {own}={shorten(value)} is not run ({', '.join(_DTYPES)})")
    return name
