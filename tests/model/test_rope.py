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
# ROPE_INIT_FUNCTIONS of transformers 5.24: "dynamic", factor 4, 2048 tokens, a text of 3000, width 64; "longrope" of a
# context stretched from 4096 to 131072, factors 1 + n / 100 and 1 + 1.5 n.
DYNAMIC = """
3f8000003f39936e3f0686693ec309353e8d61f93e4cfa713e1497063dd76d6c3d9c2a233d6268c33d2420183cedf36b3cac7df13c7a14b4
3c3548fa3c036a233bbe86c23b8a1d1b3b483d253b1127803ad272463a988dc63a5d2c9d3a20549d39e872f439a880f039744c6f393117ec
3900604638ba1f013886eb9738439be6
"""
SHORT = """
3f8000003f3e127b3f0d22fc3ed19eb93e9bae6e3e6743f23e2bc9dd3dff3d0d3dbda12f3d8ce5c63d51653c3d1b9c1c3ce74c4b3cabea02
3c7f92b53c3dfc793c0d3dcb3bd2058b3b9c28ca3b683ce23b2cb3d83b0070353abf0d253a8e1a7f3a53680d3a1d43a339e9fdba39ae1641
398186e33940c1cd390f6f7c38d57b10
"""
LONG = """
3f8000003e99940d3e0ff59a3d9d06423d3909d53ce48b6c3c91ad393c3dfc793bfc0fc13ba9773b3b6655c23b1debf63ada268b3a979eae
3a53e4b03a14c15339d1b71739945ccb3952978d3915e44d38d5eda5389904f8385b5f34381d8e0537e2b81937a36432376bdcf0372a7ab6
36f6c38836b2cf293681b72f363c66ff
"""
PLAIN = RopeSettings(width=128, theta=5e5)
NTK = RopeSettings(width=64, kind="dynamic", factor=4.0, original_max_position_embeddings=2048)
STRETCHED = RopeSettings(
    width=64,
    kind="longrope",
    factor=32.0,
    original_max_position_embeddings=4096,
    short_factor=tuple(1 + 0.01 * n for n in range(32)),
    long_factor=tuple(1 + 1.5 * n for n in range(32)),
)
SCALED = RopeSettings(
    width=128,
    kind="llama3",
    theta=5e5,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)


def bits(settings: RopeSettings, total: int = 0) -> str:
    return frequencies(settings, settings.regime(total))[0].astype(">f4").tobytes().hex()


def test_frequencies_are_those_of_torch_bit_by_bit() -> None:
    assert bits(PLAIN) == TORCH.replace("\n", "")
    assert bits(SCALED) == LLAMA3.replace("\n", "")
    # torch's own float32 power of the base is good to one unit in the last place, and differs between processors
    theirs = np.frombuffer(bytes.fromhex(DYNAMIC.replace("\n", "")), ">f4")
    np.testing.assert_allclose(frequencies(NTK, NTK.regime(3000))[0], theirs, rtol=2e-7)
    assert bits(NTK, 2048) == bits(NTK) == bits(RopeSettings(width=64)) != bits(NTK, 2049)
    assert bits(STRETCHED, 4096) == SHORT.replace("\n", "")
    assert bits(STRETCHED, 4097) == LONG.replace("\n", "")
    assert abs(frequencies(STRETCHED)[1] - 1.1902380714238083) < 1e-15


def test_angles_go_by_the_declared_length_where_the_kind_does() -> None:
    """A table for each length that there was, a few of them kept; what is asked for again is the same."""
    angles, here = Angles(NTK), np.arange(5)
    wants = {total: angles.at(here, np.float64, total)[1] for total in (10, 2048, 2049, *range(2100, 2120))}
    np.testing.assert_array_equal(wants[10], wants[2048])
    assert not np.array_equal(wants[2048], wants[2049])
    for total, want in wants.items():
        np.testing.assert_array_equal(angles.at(here, np.float64, total)[1], want)
    assert len(angles._tables) <= 8


def test_frequencies_do_not_follow_the_processor() -> None:
    """With everything off that NumPy can choose at run time, the same bits."""
    code = (
        "from refsample.model.rope import RopeSettings, frequencies\n"
        "print(frequencies(RopeSettings(width=128, theta=5e5))[0].astype('>f4').tobytes().hex())"
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
    at_once, stepwise = Angles(PLAIN), Angles(PLAIN)
    every = np.arange(5 * BLOCK)
    want = at_once.at(every, np.float64)
    for last in (0, BLOCK - 1, BLOCK, 3 * BLOCK, 5 * BLOCK - 1):
        stepwise.at(np.array([last]), np.float64)
    for got, ours in zip(stepwise.at(every, np.float64), want, strict=True):
        np.testing.assert_array_equal(got, ours)


def test_the_table_grows_by_doubling_and_makes_each_row_once() -> None:
    """A long context token by token copies each row a few times, not once per block."""
    angles, sizes = Angles(RopeSettings(width=8)), []
    for position in range(0, 64 * BLOCK, BLOCK):
        angles.at(np.array([position]), np.float32)
        sizes.append(len(angles._tables[0].cos))
    assert sorted(set(sizes)) == [BLOCK * 2**n for n in range(7)]
    angles.at(np.array([100 * BLOCK]), np.float32)
    assert len(angles._tables[0].cos) == 128 * BLOCK
