"""What differs from layer to layer in one model: window, rotary base, experts. It knows nothing of weights."""

from __future__ import annotations

from refsample.errors import MismatchError, UnsupportedModelError, shorten
from refsample.model.reading import Reader
from refsample.model.rope_config import GLOBAL, LOCAL


def windows(reader: Reader, layers: int) -> tuple[int | None, ...]:
    """How many keys each layer sees, its own among them; None: all of them.

    `layer_types` says it where it is there, else the family's rule. all: every layer has the window; used: every layer,
    if use_sliding_window; late: from max_window_layers on, if use_sliding_window; pattern: all but each n-th;
    without_rope: the layers without rotary embedding, if use_sliding_window.
    """
    rule = reader.family.windows
    if rule == "none":
        return (None,) * layers
    width = reader.count("sliding_window")
    first, pattern = reader.value("max_window_layers"), reader.needed_count("sliding_window_pattern", 1)
    if rule in ("used", "late", "without_rope") and not reader.switch("use_sliding_window"):
        width = None
    turned = rotary(reader, layers)
    kinds = reader.given("layer_types") if rule in ("late", "pattern", "without_rope") else None
    if kinds is not None:
        local = [kind == LOCAL for kind in _kinds(reader, kinds, layers)]
        return _local(reader, local, width, "layer_types")
    if rule in ("all", "used"):
        return (width,) * layers
    if rule == "late":
        if not isinstance(first, int) or isinstance(first, bool) or first < 0:
            raise MismatchError(f"{reader.path}: max_window_layers={shorten(first)} must be a number of layers")
        return tuple(width if n >= first else None for n in range(layers))
    if rule == "pattern":
        local = [(n + 1) % pattern != 0 for n in range(layers)]
        return _local(reader, local, width, reader.own("sliding_window_pattern"))
    return tuple(None if turns else width for turns in turned)


def _local(reader: Reader, local: list[bool], width: int | None, said: str) -> tuple[int | None, ...]:
    """The window in the layers that have one by the word of the setting `said`."""
    if any(local) and width is None:
        raise MismatchError(f"{reader.path}: {said} gives layers a window, sliding_window says that there is none")
    return tuple(width if here else None for here in local)


def _kinds(reader: Reader, value: object, layers: int) -> list[str]:
    """`layer_types`, checked."""
    if not isinstance(value, list) or len(value) != layers:
        held = f"{len(value)} entries" if isinstance(value, list) else shorten(value)
        raise MismatchError(f"{reader.path}: layer_types has {held}, there are {layers} layers")
    for kind in value:
        if kind not in (GLOBAL, LOCAL):
            raise UnsupportedModelError(f"{reader.path}: layer_types names {shorten(kind)}, run are {GLOBAL}, {LOCAL}")
    return value


def rotary(reader: Reader, layers: int) -> tuple[bool, ...]:
    """Whether each layer turns its queries and keys."""
    if not reader.family.rotary:
        return (False,) * layers
    if not reader.knows("no_rope_layers"):
        return (True,) * layers
    interval = reader.count("no_rope_layer_interval")
    listed = reader.per_layer("no_rope_layers", layers)
    if listed is None:
        return tuple(interval is None or (n + 1) % interval != 0 for n in range(layers))
    if any(one not in (0, 1) for one in listed):
        raise MismatchError(f"{reader.path}: no_rope_layers={shorten(listed)} must hold 0 and 1 (1: with rotary)")
    return tuple(bool(one) for one in listed)


def ropes(reader: Reader, seen: tuple[int | None, ...], layers: int) -> tuple[int | None, ...]:
    """Which of the rotary settings each layer uses; None: none."""
    kinds = reader.given("layer_types") if reader.family.local_rope else None
    local = [kind == LOCAL for kind in kinds] if kinds is not None else [width is not None for width in seen]
    second = [int(reader.family.local_rope and here) for here in local]
    return tuple(n if turns else None for n, turns in zip(second, rotary(reader, layers), strict=True))


def sparse(reader: Reader, layers: int) -> tuple[bool, ...]:
    """Whether each layer has experts in place of one feed-forward."""
    if reader.family.experts is None:
        return (False,) * layers
    step, plain = reader.needed_count("decoder_sparse_step", 1), reader.value("mlp_only_layers")
    plain = [] if plain is None else plain
    if not isinstance(plain, list) or not all(type(n) is int and 0 <= n < layers for n in plain):
        raise MismatchError(f"{reader.path}: mlp_only_layers={shorten(plain)} must hold numbers of the {layers} layers")
    return tuple(n not in plain and (n + 1) % step == 0 for n in range(layers))
