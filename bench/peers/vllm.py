"""vLLM's torch-native sampler functions, out of the wheel's Python files.

    pip install 'torch==2.13.0' && pip install --no-deps vllm==0.33.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.peers.cases import Case
from bench.peers.files import folder, functions, version

ENGINE = "vllm"
VERSION = version("vllm")
PATH = "v1/sample and model_executor/layers/utils.py, torch-native, float32 on a CPU"
# apply_top_k_top_p_pytorch keeps every tie of top_k; of tied tokens at the edge of top_p a stable ascending sort keeps
# the highest ids. The engine's default, Triton's kernel, keeps the lowest and exactly k.
OVERRIDES: dict[str, object] = {"top_k_ties": "keep_all", "top_p_ties": "high_id", "min_p_form": "probability"}
PARAMETERS = frozenset({
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "logit_bias",
})  # fmt: skip

ROOT = folder("vllm")
SCOPE: dict[str, Any] = {"torch": torch, "_SAMPLING_EPS": 1e-5}
functions(ROOT / "model_executor/layers/utils.py", ("get_token_bin_counts_and_mask", "apply_penalties"), SCOPE)
functions(ROOT / "_custom_ops.py", ("apply_repetition_penalties_torch",), SCOPE)
functions(ROOT / "v1/sample/ops/topk_topp_sampler.py", ("apply_top_k_top_p_pytorch", "apply_top_k_only"), SCOPE)
functions(ROOT / "v1/sample/sampler.py", ("Sampler.apply_temperature",), SCOPE)
MIN_P: dict[str, Any] = {"torch": torch}
functions(ROOT / "v1/sample/logits_processor/builtin.py", ("MinPLogitsProcessor.apply",), MIN_P)
BIAS: dict[str, Any] = {"torch": torch}
functions(ROOT / "v1/sample/logits_processor/builtin.py", ("LogitBiasLogitsProcessor.apply",), BIAS)


def fits(one: Case) -> bool:
    """Whether the engine can be asked this."""
    return True


def _penalised(
    logits: torch.Tensor, params: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> torch.Tensor:
    """apply_penalties, whose import of the compiled operation is answered with the torch one of the same file."""
    import sys

    name = "vllm._custom_ops"
    known = {key: sys.modules.get(key) for key in ("vllm", name)}
    operations = SimpleNamespace(apply_repetition_penalties=SCOPE["apply_repetition_penalties_torch"])
    sys.modules["vllm"], sys.modules[name] = SimpleNamespace(_custom_ops=operations), operations  # type: ignore[assignment]
    try:
        return SCOPE["apply_penalties"](  # type: ignore[no-any-return]
            logits, *(torch.tensor([list(ids)], dtype=torch.long) for ids in (prompt_ids, output_ids)),
            *(torch.tensor([params[n]], dtype=torch.float32)
              for n in ("presence_penalty", "frequency_penalty", "repetition_penalty")),
        )  # fmt: skip
    finally:
        for key, module in known.items():
            if module is None:
                del sys.modules[key]
            else:
                sys.modules[key] = module


def law(
    logits: NDArray[np.float32], params: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> NDArray[np.float32]:
    """Probabilities [V] of the next token, in the order of Sampler.apply_logits_processors and Sampler.sample."""
    rows, size = torch.from_numpy(logits.copy())[None], logits.size
    # what SamplingParams does before (sampling_params.py:491-516,560-568): bias and temperature are clamped
    bias = {token: max(-100.0, min(100.0, value)) for token, value in params["logit_bias"].items()}
    temperature = max(params["temperature"], 0.01) if params["temperature"] > 0.0 else 0.0
    if bias:
        ids = torch.tensor(list(bias), dtype=torch.long)
        place = (torch.zeros_like(ids), ids)
        rows = BIAS["apply"](SimpleNamespace(biases=bias, logits_slice=place, bias_tensor=torch.tensor(
            list(bias.values()), dtype=torch.float32)), rows)  # fmt: skip
    if any(params[n] for n in ("presence_penalty", "frequency_penalty")) or params["repetition_penalty"] != 1.0:
        rows = _penalised(rows, params, prompt_ids, output_ids)
    if temperature == 0.0:
        return torch.zeros_like(rows).index_fill(1, rows.argmax(dim=-1), 1.0)[0].numpy()  # type: ignore[no-any-return]
    rows = SCOPE["apply_temperature"](rows, torch.tensor([temperature], dtype=torch.float32), True)
    if params["min_p"]:
        rows = MIN_P["apply"](SimpleNamespace(min_p_count=1, min_p=torch.tensor([[params["min_p"]]])), rows)
    k = torch.tensor([min(params["top_k"], size)]) if params["top_k"] else None
    p = torch.tensor([params["top_p"]], dtype=torch.float32) if params["top_p"] < 1.0 else None
    rows = SCOPE["apply_top_k_top_p_pytorch"](rows, k, p, allow_cpu_sync=True)
    found: NDArray[np.float32] = torch.softmax(rows, dim=-1)[0].numpy()
    return found
