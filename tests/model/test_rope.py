"""Rotary frequencies: torch's bits on every processor; and the table of angles that grows."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from refsample.model.rope import BLOCK, Angles, RopeSettings, frequencies
from tests.house.sources import PACKAGES

# 1 / 5e5 ** (arange(0, 128, 2).float() / 128) of torch 2.13, CPU: float32, big-endian. One bit at position 131071 is
# 5e-3 in a cosine.
TORCH = """
3f8000003f508ac13f29e1c63f0a63843ee177bc3eb7ab7d3e959ee33e73c4613e4693b03e21c3a03e03c6a03dd6b19c3daee4ad3d8e7898
3d681e673d3d16843d1a08c83cfaf53f3ccc6f493ca689393c87a9c33c5d06ec3c340d6d3c12ac7f3beef74f3bc2aa763b9e94023b812e35
3b5277203b2b72dc3b0baa413ae38c103ab95d213a9700233a7603ea3a4868863a23418d3a04fdbf39d8ac8139b08199398fc8f8396a426f
393ed4f4391b747538fd45c338ce51f538a8126b3888ea0f385f10c43835b687381406cb37f12b8037c4761037a00a6937825f3437546808
372d07a7370cf40036e5a54d36bb12c7369864a7367848c2364a41b03624c2ff
"""
# The same after transformers 5's ROPE_INIT_FUNCTIONS["llama3"], as Llama 3.1 has it: factor 8, 1 and 4, 8192.
LLAMA3 = """
3f8000003f508ac13f29e1c63f0a63843ee177bc3eb7ab7d3e959ee33e73c4613e4693b03e21c3a03e03c6a03dd6b19c3daee4ad3d8e7898
3d681e673d3d16843d1a08c83cfaf53f3ccc6f493ca689393c87a9c33c5d06ec3c340d6d3c12ac7f3beef74f3bc2aa763b9e94023b812e35
3b5277203b0dfd063ab3d11d3a60979e3a0995d239a3f108393b2dd238c8688638a3418d3884fdbf3858ac8138308199380fc8f837ea426f
37bed4f4379b7475377d45c3374e51f53728126b3708ea0f36df10c436b5b687369406cb36712b803644761036200a6936025f3435d46808
35ad07a7358cf4003565a54d353b12c7351864a734f848c234ca41b034a4c2ff
"""
PLAIN = RopeSettings(theta=5e5)
SCALED = RopeSettings(
    kind="llama3",
    theta=5e5,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)


def bits(settings: RopeSettings) -> str:
    return frequencies(settings, 128)[0].astype(">f4").tobytes().hex()


def test_frequencies_are_those_of_torch_bit_by_bit() -> None:
    assert bits(PLAIN) == TORCH.replace("\n", "")
    assert bits(SCALED) == LLAMA3.replace("\n", "")


def test_frequencies_do_not_follow_the_processor() -> None:
    """With everything off that NumPy can choose at run time, the same bits."""
    code = (
        "from refsample.model.rope import RopeSettings, frequencies\n"
        "print(frequencies(RopeSettings(theta=5e5), 128)[0].astype('>f4').tobytes().hex())"
    )
    every = " ".join(getattr(np._core._multiarray_umath, "__cpu_dispatch__", ()))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(package.parent) for package in PACKAGES)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=env | {"NPY_DISABLE_CPU_FEATURES": every},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == TORCH.replace("\n", ""), done.stderr


def test_a_row_of_angles_is_the_same_however_the_table_grew() -> None:
    at_once, stepwise = Angles(PLAIN, 128), Angles(PLAIN, 128)
    every = np.arange(5 * BLOCK)
    want = at_once.at(every, np.float64)
    for last in (0, BLOCK - 1, BLOCK, 3 * BLOCK, 5 * BLOCK - 1):
        stepwise.at(np.array([last]), np.float64)
    for got, ours in zip(stepwise.at(every, np.float64), want, strict=True):
        np.testing.assert_array_equal(got, ours)


def test_the_table_grows_by_doubling_and_makes_each_row_once() -> None:
    """A long context token by token copies each row a few times, not once per block."""
    angles, sizes = Angles(PLAIN, 8), []
    for position in range(0, 64 * BLOCK, BLOCK):
        angles.at(np.array([position]), np.float32)
        sizes.append(len(angles._cos))
    assert sorted(set(sizes)) == [BLOCK * 2**n for n in range(7)]
    angles.at(np.array([100 * BLOCK]), np.float32)
    assert len(angles._cos) == 128 * BLOCK
