"""Base and adapter against PEFT: random adapters that PEFT itself makes and saves, over random folders and tiny."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import refsample  # noqa: E402  (after the skips)
from refsample.generation.load import adapters  # noqa: E402
from refsample.model.load import load_transformer  # noqa: E402
from refsample.model.lora import read_adapter  # noqa: E402
from refsample.model.transformer import Transformer  # noqa: E402
from refsample.tiny import FOLDER  # noqa: E402
from tests.data.make_goldens import ids_for, tiny_ids  # noqa: E402
from tests.factories import CASES, write_llama  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:.*torch_dtype.*"),  # configs in the spelling of transformers 4
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),  # what PEFT thinks of tied and saved embeddings
]
BOUND = 5e-5
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

ADAPTERS: dict[str, dict[str, Any]] = {
    "usual": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    "all_linear": {"r": 4, "lora_alpha": 4, "target_modules": "all-linear"},
    "rank_one": {"r": 1, "lora_alpha": 3, "target_modules": EVERY, "lora_dropout": 0.2},
    "root": {"r": 17, "lora_alpha": 5, "use_rslora": True, "target_modules": EVERY},
    "root_patterns": {
        "r": 6, "lora_alpha": 5, "use_rslora": True, "target_modules": EVERY,
        "rank_pattern": {"o_proj": 3, "layers.1.mlp.up_proj": 12, r"0\.mlp\..*": 2},
        "alpha_pattern": {"down_proj": 1, r"layers\.0\.self_attn\.[qk]_proj": 9},
    },
    "expression": {"r": 5, "lora_alpha": 7, "target_modules": r".*\.1\.(mlp\.\w+_proj|self_attn\.k_proj)"},
    "full_names": {
        "r": 2, "lora_alpha": 8, "layers_to_transform": [1],
        "target_modules": ["model.layers.0.mlp.gate_proj", "self_attn.q_proj"],
    },
    "layers": {"r": 4, "target_modules": EVERY, "layers_to_transform": [0], "layers_pattern": "layers"},
    "one_layer": {"r": 4, "lora_alpha": 8, "target_modules": ["mlp.up_proj", "o_proj"], "layers_to_transform": 1},
    "excluded": {"r": 3, "lora_alpha": 6, "target_modules": EVERY, "exclude_modules": ["model.layers.0.mlp.up_proj"]},
    "excluded_expression": {"r": 3, "lora_alpha": 6, "target_modules": EVERY, "exclude_modules": r".*\.1\.mlp.*"},
    "embedding": {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "q_proj"]},
    "head": {"r": 4, "lora_alpha": 8, "target_modules": ["lm_head", "down_proj"]},
    "both_ends": {"r": 4, "target_modules": ["lm_head", "embed_tokens"], "rank_pattern": {"lm_head": 7}},
}  # fmt: skip
BASES = ("default", "four_to_one", "biases", "float32", "odd_sizes", "yarn")


def their_model(folder: Path, dtype: Any = torch.float32) -> Any:
    transformers.utils.logging.disable_progress_bar()
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")


def their_logits(model: Any, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model.eval()(torch.tensor(ids[None])).logits[0].float().numpy()
    return logits


def their_adapter(folder: Path, target: Path, config: dict[str, Any], seed: int = 0) -> Any:
    """A random adapter that PEFT makes and saves to `target`, and then reads again over the base of `folder`.

    What it adds to a product is half of it in size, whatever rank and scale are: far more would make attention a choice
    of one token, and rounding would decide which.
    """
    torch.manual_seed(seed)
    model = peft.get_peft_model(their_model(folder), peft.LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for module in filter(lambda module: hasattr(module, "lora_A"), model.modules()):
            for layer in module.lora_A.values():
                layer.weight.normal_(std=layer.weight.shape[1] ** -0.5)
            for factor in module.lora_embedding_A.values():
                factor.normal_()
            for up in (*(layer.weight for layer in module.lora_B.values()), *module.lora_embedding_B.values()):
                up.normal_(std=0.5 / (up.shape[1] ** 0.5 * module.scaling["default"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(target)
        return peft.PeftModel.from_pretrained(their_model(folder), target)


def ours(base: Transformer, folder: Path) -> Transformer:
    return base.with_adapter(read_adapter(folder, base.config, base.source))


def logits(run: Transformer, ids: NDArray[np.int64]) -> NDArray[Any]:
    return run.forward([(ids, run.new_cache())], rows="all")[0]


def compare(folder: Path, target: Path, config: dict[str, Any], seed: int = 0) -> None:
    ids = ids_for(268, 120)
    want = their_logits(their_adapter(folder, target, config, seed), ids)
    base = load_transformer(folder)
    run = ours(base, target)
    bound = BOUND * want.std()
    got = logits(run, ids)
    assert np.abs(got - want).max() <= bound
    assert np.abs(logits(run.with_precision("float64"), ids) - want).max() <= bound
    assert np.abs(logits(base, ids) - want).max() > 100 * bound  # the adapter says something


@pytest.mark.parametrize("name", ADAPTERS)
def test_random_adapter(name: str, tmp_path: Path) -> None:
    compare(write_llama(tmp_path / "base"), tmp_path / "lora", ADAPTERS[name])


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["all_linear", "root_patterns", "both_ends"])
def test_random_base(base: str, name: str, tmp_path: Path) -> None:
    compare(write_llama(tmp_path / "base", **CASES[base]), tmp_path / "lora", ADAPTERS[name], seed=5)


@pytest.mark.parametrize("seed", range(12))
def test_drawn_configs(seed: int, tmp_path: Path) -> None:
    """Rank, alpha, rsLoRA, modules and patterns drawn at random."""
    rng = np.random.RandomState(seed)
    targets = [name for name in EVERY if rng.rand() < 0.6] or ["q_proj"]
    config = {
        "r": int(rng.randint(1, 40)),
        "lora_alpha": int(rng.randint(1, 40)),
        "use_rslora": bool(rng.rand() < 0.5),
        "target_modules": targets,
        "rank_pattern": {name: int(rng.randint(1, 20)) for name in targets if rng.rand() < 0.3},
        "alpha_pattern": {f"{rng.randint(2)}.*{name}": int(rng.randint(1, 20)) for name in targets if rng.rand() < 0.3},
    }
    compare(write_llama(tmp_path / "base", seed=100 + seed), tmp_path / "lora", config, seed)


def test_pirate_over_tiny() -> None:
    folder = adapters(FOLDER)["pirate"]
    want_from = peft.PeftModel.from_pretrained(their_model(FOLDER), folder)
    ids = tiny_ids(600)
    want = their_logits(want_from, ids)
    got = refsample.load("tiny", adapter="pirate").logits(ids.tolist())
    assert np.abs(got - want).max() <= BOUND * want.std()


def test_bf16_emulation_is_nearer_to_peft_in_bf16_than_float32_is() -> None:
    """PEFT keeps factors in float32 beside a base in bfloat16, and rounds the sum."""
    folder = adapters(FOLDER)["pirate"]
    ids = tiny_ids(300)
    model = peft.PeftModel.from_pretrained(their_model(FOLDER, torch.bfloat16), folder)
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} == {torch.float32}
    want = their_logits(model, ids)
    run = refsample.load("tiny", adapter="pirate")
    emulated, exact = (logits(run.transformer_for(name), ids) for name in ("bf16", "float32"))

    def rms(a: NDArray[Any], b: NDArray[Any]) -> float:
        return float(np.sqrt(np.mean((a - b) ** 2)))

    assert rms(emulated, want) < 0.85 * rms(exact, want)
    assert 0.5 < rms(emulated, exact) / rms(want, exact) < 2
