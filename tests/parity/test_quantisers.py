"""Our roundings against the packers themselves: compressed-tensors, gguf and ml_dtypes, bit for bit.

What is compared is what a packer's own unpacking gives, so scales, roundings and ranges all have to agree. A zero has
no sign here: storage in integers has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample.generation.load import load
from refsample.model import quantise
from refsample_kernels.lanes import to_bf16, widen

pytestmark = pytest.mark.parity

F32 = NDArray[np.float32]


def matrices() -> Iterator[F32]:
    """Weights of tiny, and random ones with outliers, empty groups and rows, equal magnitudes, and tiny numbers."""
    for layer in load("tiny").transformer.source.layers[:2]:
        for projection in (layer.q, layer.down):
            assert projection is not None
            held = widen(projection.weight)
            yield np.ascontiguousarray(held[:, : held.shape[1] // 128 * 128])
    rng = np.random.default_rng(0)
    for scale in (1e-6, 0.02, 30.0):
        made = (rng.standard_t(3, (48, 384)) * scale).astype(np.float32)
        made[3, :128], made[5, 32:64], made[7] = 0.0, 0.0, 0.0
        made[9] = np.where(rng.random(384) < 0.5, scale, -scale)
        yield made
    yield np.rint(rng.standard_normal((16, 384)) * 20).astype(np.float32)  # halves of steps among them


def same_bits(ours: F32, theirs: F32) -> None:
    np.testing.assert_array_equal((ours + 0.0).view(np.uint32), (theirs + 0.0).view(np.uint32))


def compressed(values: F32, **settings: Any) -> F32:
    """What compressed-tensors' symmetric quantiser and its inverse make of a matrix."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments = QuantizationArgs(symmetric=True, **settings)
    x = torch.from_numpy(values)
    parts = x.unflatten(-1, (-1, settings["group_size"])) if settings["strategy"] == "group" else x
    if settings["strategy"] == "tensor":
        low, high = x.min(), x.max()
    else:
        keep = settings["strategy"] != "group"
        low, high = parts.amin(-1, keepdim=keep), parts.amax(-1, keepdim=keep)
    scale, zero = calculate_qparams(low, high, arguments)
    stored = torch.float8_e4m3fn if settings.get("type") == "float" else torch.int8
    packed = quantize(x, scale, zero, arguments, dtype=stored)
    assert packed.dtype == stored
    unpacked: F32 = dequantize(packed, scale, zero, arguments, dtype=torch.float32).numpy()
    return unpacked


@pytest.mark.parametrize("group", [32, 64, 128])
def test_int4_is_compressed_tensors(group: int) -> None:
    for values in matrices():
        theirs = compressed(values, num_bits=4, strategy="group", group_size=group)
        same_bits(quantise.round_to_int4_full(values, group), theirs)
        assert not np.array_equal(quantise.round_to_int4(values, group), theirs), "another formula, another name"


def test_int8_is_compressed_tensors() -> None:
    for values in matrices():
        same_bits(quantise.round_to_int8(values), compressed(values, num_bits=8, strategy="channel"))
        same_bits(quantise.round_to_int8(values, 32), compressed(values, num_bits=8, strategy="group", group_size=32))


def test_tokens_are_compressed_tensors() -> None:
    """Its dynamic quantiser of activations, in int8 and in FP8."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    for kind, ours in (("int", quantise.round_to_int8), ("float", quantise.round_to_fp8)):
        arguments = QuantizationArgs(num_bits=8, type=kind, symmetric=True, strategy="token", dynamic=True)
        for values in matrices():
            x = torch.from_numpy(values)[None]  # [1, N, in]
            scale, zero = compute_dynamic_scales_and_zp(x, arguments, torch.nn.Identity())
            same_bits(ours(values), fake_quantize(x, scale, zero, arguments)[0].numpy())


def test_fp8_is_compressed_tensors() -> None:
    for values in matrices():
        for strategy, scale in (("channel", "row"), ("tensor", "tensor")):
            theirs = compressed(values, num_bits=8, type="float", strategy=strategy)
            same_bits(quantise.round_to_fp8(values, scale), theirs)  # type: ignore[arg-type]  # of a tuple of texts


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_gguf(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    ours: Callable[[F32], F32] = {"Q8_0": quantise.round_to_q8_0, "Q4_0": quantise.round_to_q4_0}[kind]
    number = gguf.GGMLQuantizationType[kind]
    for values in matrices():
        same_bits(ours(values), gguf.dequantize(gguf.quantize(values, number), number))


def numbers() -> F32:
    """Every bfloat16, and float32 numbers of all sizes around the middles between two FP8 numbers."""
    every = (np.arange(65536, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    rng = np.random.default_rng(1)
    wide = (rng.standard_normal(200_000) * 10.0 ** rng.uniform(-8, 4, 200_000)).astype(np.float32)
    held = np.arange(0, 464, 2.0**-10, dtype=np.float32)
    return np.concatenate([every, wide, held, np.nextafter(held, np.float32(1e9)), np.nextafter(held, np.float32(-1))])


def test_e4m3_and_halves_are_ml_dtypes() -> None:
    types = pytest.importorskip("ml_dtypes")
    values = numbers()
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = values.astype(types.float8_e4m3fn).astype(np.float32)
        clamped = np.clip(values, -448, 448).astype(types.float8_e4m3fn).astype(np.float32)
        bf16 = values.astype(types.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(quantise.to_e4m3(values, saturate=False), theirs)
    np.testing.assert_array_equal(quantise.to_e4m3(values), clamped)
    np.testing.assert_array_equal(to_bf16(values), bf16)
    finite = np.isfinite(theirs) & (theirs != 0)
    same_bits(quantise.to_e4m3(values, saturate=False)[finite], theirs[finite])
