"""Logits and greedy tokens against transformers (eager attention), on random folders and the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from refsample.model.load import load_transformer  # noqa: E402  (after the skips)
from refsample.model.transformer import Transformer  # noqa: E402
from tests.data.make_goldens import TINY, ids_for, tiny_ids  # noqa: E402
from tests.factories import CASES, write_llama  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:.*torch_dtype.*"),  # configs in the spelling of transformers 4
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]
BOUND = 5e-5


def theirs(folder: Path, dtype: Any) -> Any:
    transformers.utils.logging.disable_progress_bar()
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")


def their_logits(model: Any, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor(ids[None])).logits[0].float().numpy()
    return logits


def our_logits(model: Transformer, ids: NDArray[np.int64]) -> NDArray[Any]:
    return model.forward([(ids, model.new_cache())], rows="all")[0]


@pytest.mark.parametrize("name", CASES)
def test_random_folder(name: str, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / name, **CASES[name])
    ids = ids_for(268, 250)
    model = load_transformer(folder)
    want = their_logits(theirs(folder, torch.float32), ids)
    bound = BOUND * want.std()
    ours, exact = our_logits(model, ids), our_logits(model.with_precision("float64"), ids)
    assert np.abs(ours - want).max() <= bound
    assert np.abs(ours - exact).max() <= bound
    same_choice(want, ours, bound)


def same_choice(want: NDArray[Any], ours: NDArray[Any], bound: float) -> None:
    """The greedy token of every position is the same, unless the two best are closer than the bound."""
    best = np.sort(want, axis=1)
    clear = best[:, -1] - best[:, -2] > 2 * bound
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(want.argmax(axis=1)[clear], ours.argmax(axis=1)[clear])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", ["1GB", "40KB"])
def test_a_folder_that_transformers_saved(dtype: str, size: str, tmp_path: Path) -> None:
    """Its own config.json, its own shards and index, weights of its own making."""
    torch.manual_seed(3)
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=128,
        rope_parameters=rope | {"original_max_position_embeddings": 32},
        attention_bias=True,
        tie_word_embeddings=size == "1GB",
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=[2, 5],
    )
    transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors").exists() == (size == "1GB")
    model, ids = load_transformer(tmp_path), ids_for(300, 128)
    assert model.config.eos_token_ids == (2, 5) and model.config.rope.kind == "llama3"
    want = their_logits(theirs(tmp_path, torch.float32), ids)
    assert np.abs(our_logits(model, ids) - want).max() <= BOUND * want.std()


def test_embedded_model() -> None:
    ids = tiny_ids(1000)
    want = their_logits(theirs(TINY, torch.float32), ids)
    model = load_transformer(TINY)
    bound = BOUND * want.std()
    ours = our_logits(model, ids)
    assert np.abs(ours - want).max() <= bound
    assert np.abs(ours - our_logits(model.with_precision("float64"), ids)).max() <= bound
    same_choice(want, ours, bound)


def test_bf16_emulation_is_nearer_to_torch_in_bf16_than_float32_is() -> None:
    """Same roundings, other order of sums: the two share most of their error, not all of it."""
    ids = tiny_ids(300)
    want = their_logits(theirs(TINY, torch.bfloat16), ids)
    model = load_transformer(TINY)
    emulated, exact = our_logits(model.with_precision("bf16"), ids), our_logits(model, ids)

    def rms(a: NDArray[Any], b: NDArray[Any]) -> float:
        return float(np.sqrt(np.mean((a - b) ** 2)))

    assert rms(emulated, want) < 0.85 * rms(exact, want)
    assert 0.5 < rms(emulated, exact) / rms(want, exact) < 2
