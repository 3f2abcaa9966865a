"""Writes the goldens of logits: random Llama folders and the embedded model, run by transformers (float32, eager).

    PYTHONPATH=.:kernels python tests/data/make_goldens.py        # needs torch and transformers

Knows nothing of refsample's runtime: the numbers come from outside.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.factories import CASES, write_llama

HERE = Path(__file__).parent
TINY = HERE.parents[1] / "refsample" / "tiny"
LENGTH, ROWS = 200, (0, 1, 15, 16, 63, 64, 130, 199)
TINY_LENGTH, TINY_ROWS = 1000, (0, 511, 999)


def transformers_logits(folder: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits [T, V] of transformers in float32 with eager attention."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model: Any = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor(ids[None])).logits[0].numpy()
    return logits


def ids_for(vocab_size: int, length: int) -> NDArray[np.int64]:
    """The same random ids on every machine."""
    return np.random.RandomState(17).randint(0, vocab_size, length)


def tiny_ids(length: int) -> NDArray[np.int64]:
    """Ids for the embedded model, of whatever vocabulary it has."""
    config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    return ids_for(config["vocab_size"], length)


def main() -> None:
    """Write logits.npz (random folders) and tiny_logits.npz (the embedded model)."""
    kept: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, changes in CASES.items():
            folder = write_llama(Path(place) / name, **changes)
            logits = transformers_logits(folder, ids_for(268, LENGTH))
            kept[name] = logits[list(ROWS)]
            kept[f"{name}.std"] = logits.std()
    np.savez_compressed(HERE / "logits.npz", **kept)
    ids = tiny_ids(TINY_LENGTH)
    logits = transformers_logits(TINY, ids)
    weights = hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()
    np.savez_compressed(HERE / "tiny_logits.npz", rows=logits[list(TINY_ROWS)], std=logits.std(), weights=weights)
    for path in (HERE / "logits.npz", HERE / "tiny_logits.npz"):
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
