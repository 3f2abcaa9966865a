"""Emulations as wholes: against compressed-tensors' own quantised forward pass, torch in float16, and on every family.

Where inputs are rounded token by token, two honest implementations part as soon as a value lies so near to the middle
between two steps that float32's own error decides; before that they are the same to that error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample.generation.load import load
from refsample.generation.noise import default_prompts
from refsample.model.emulations import ARITHMETICS
from refsample.model.load import load_transformer
from refsample.model.transformer import Transformer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.data.make_goldens import TINY  # noqa: E402  (after the skips)
from tests.parity.families import CASES, write_random  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:.*torch_dtype.*"),  # configs in the spelling of transformers 4
]


def theirs(dtype: Any) -> Any:
    transformers.utils.logging.disable_progress_bar()
    return transformers.LlamaForCausalLM.from_pretrained(TINY, dtype=dtype, attn_implementation="eager").eval()


def their_logits(model: Any, ids: tuple[int, ...]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([ids])).logits[0].float().numpy()
    return logits


def our_logits(model: Transformer, ids: tuple[int, ...]) -> NDArray[Any]:
    return model.forward([(ids, model.new_cache())], rows="all")[0]


def rms(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Root mean square difference of logits beside a common shift at each position."""
    gap = a - b
    return float(np.sqrt(np.mean((gap - gap.mean(axis=1, keepdims=True)) ** 2)))


@pytest.mark.parametrize(
    ("weights", "inputs", "name", "part"),
    [
        ({"num_bits": 8, "strategy": "channel"}, None, "int8-channel", 1e-3),
        ({"num_bits": 4, "strategy": "group", "group_size": 64}, None, "int4-g64-full", 1e-3),
        ({"num_bits": 8, "type": "float", "strategy": "channel"}, None, "fp8", 1e-3),
        ({"num_bits": 8, "strategy": "channel"}, "int", "int8-token", 0.9),
        ({"num_bits": 8, "type": "float", "strategy": "channel"}, "float", "fp8-token", 0.9),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_as_compressed_tensors_runs_it(
    weights: dict[str, Any], inputs: str | None, name: str, part: float
) -> None:
    """Its hooks on transformers' model, every linear layer but the head, as its checkpoints say."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization import apply_quantization_config as apply
    from compressed_tensors.quantization.utils import calculate_qparams

    model = theirs(torch.float32)
    arguments = QuantizationArgs(symmetric=True, **weights)
    dynamic = inputs and QuantizationArgs(num_bits=8, type=inputs, symmetric=True, strategy="token", dynamic=True)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments, input_activations=dynamic or None)
    apply(model, QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"], quantization_status="frozen"))
    quantised = 0
    for module in model.modules():
        if getattr(module, "weight_scale", None) is None:
            continue
        held = module.weight.data
        parts = held.unflatten(-1, (-1, weights["group_size"])) if "group_size" in weights else held
        keep = "group_size" not in weights
        scale, _ = calculate_qparams(parts.amin(-1, keepdim=keep), parts.amax(-1, keepdim=keep), arguments)
        module.weight_scale.data = scale
        quantised += 1
    tiny = load("tiny")
    assert quantised == 7 * tiny.config.layers
    ids = tiny.prompt_ids(default_prompts(tiny)[2])
    want, exact = their_logits(model, ids), our_logits(tiny.transformer, ids)
    got = our_logits(tiny.transformer_for(name), ids)
    assert rms(got, want) < part * rms(exact, want)
    assert rms(got[:1], want[:1]) < 1e-3 * rms(exact[:1], want[:1]), "the first position, before anything can part"


def test_f16_is_torch_in_f16_until_a_rounding_parts_them() -> None:
    """The first layer's keys and values are equal but for one in a thousand, the logits are as far from exact."""
    tiny = load("tiny")
    ids = tiny.prompt_ids(default_prompts(tiny)[2])
    model, run = theirs(torch.float16), tiny.transformer_for("f16")
    cache = run.new_cache()
    emulated = run.forward([(ids, cache)], rows="all")[0]
    with torch.no_grad():
        made = model(torch.tensor([ids]), use_cache=True)
    want, first = made.logits[0].float().numpy(), made.past_key_values.layers[0]
    keys, values = (part[0].float().numpy() for part in (first.keys, first.values))  # [K, S, D]
    assert np.mean(cache.keys[0, :, :, : len(ids)].transpose(0, 2, 1) != keys) < 0.005
    assert np.mean(cache.values[0, :, : len(ids)] != values) < 0.005
    exact = our_logits(tiny.transformer, ids)
    assert 0.5 < rms(emulated, exact) / rms(want, exact) < 2
    assert np.mean(emulated[0] != want[0]) < 0.2


@pytest.mark.parametrize("case", list({kind: case for case, (kind, _) in reversed(CASES.items())}.values()))
def test_every_family_in_every_emulation(case: str, tmp_path: Path) -> None:
    """Finite, near the truth, and the same bits at once, in parts and beside another."""
    write_random(case, tmp_path)
    base = load_transformer(tmp_path)
    size, rng = base.config.vocab_size, np.random.default_rng(4)
    ids, other = rng.integers(0, size, 24).tolist(), rng.integers(0, size, 5).tolist()
    exact = base.with_precision("float64")
    truth = exact.forward([(ids, exact.new_cache(24))], rows="all")[0]
    for name in ARITHMETICS:
        run, cache = base.with_precision(name), base.with_precision(name).new_cache(24)
        got = run.forward([(ids, run.new_cache(24))], rows="all")[0]
        assert np.isfinite(got).all() and rms(got, truth) < 0.8 * truth.std(), name
        if name == "float64":
            continue
        beside, _ = run.forward([(ids, run.new_cache(24)), (other, run.new_cache(5))], rows="all")
        parts = [run.forward([(part, cache)], rows="all")[0] for part in (ids[:7], ids[7:8], ids[8:])]
        np.testing.assert_array_equal(beside, got, err_msg=name)
        np.testing.assert_array_equal(np.concatenate(parts), got, err_msg=name)
