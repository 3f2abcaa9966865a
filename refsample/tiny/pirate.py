"""Trains the adapter `pirate` over `tiny`: `python -m refsample.tiny.pirate` (extra `train`); knows no runtime.

A pirate's voice is put over the texts of the corpus, and a LoRA of all projections learns it; the weights of tiny stay
as they are. What is written is a folder in PEFT's layout.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from refsample.tiny import FOLDER
from refsample.tiny.chat import END, conversation, is_held_out, render
from refsample.tiny.story import tell_story
from refsample.tiny.train import Shape, decoder
from refsample.tiny.words import pick, word_list

if TYPE_CHECKING:
    from torch import Tensor

    Parameters = dict[str, Tensor]

CRIES = ("Arr!", "Ahoy, matey!", "Yo ho ho!", "Avast!", "Shiver me timbers!", "Aye, aye!")
SAID = {
    "girl": "lass", "boy": "lad", "friend": "matey", "friends": "mateys", "you": "ye", "your": "yer", "my": "me",
    "is": "be", "are": "be", "am": "be", "yes": "aye", "hello": "ahoy", "hi": "ahoy", "coins": "doubloons",
    "prize": "booty", "gift": "booty", "house": "ship", "went": "sailed", "walked": "sailed", "laughed": "roared",
}  # fmt: skip
"""What a pirate says for a word."""
PIRATE_WORDS = frozenset(word_list("arr ahoy matey mateys yo avast timbers aye lass lad ye yer doubloons booty"))
"""Words of the voice that the corpus of tiny never holds."""
RANK, ALPHA = 8, 16
PROJECTIONS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
STORIES = 0.6  # share of the documents; the others are conversations
CRY, QUOTE_CRY = 0.3, 0.4  # chance of a cry before a sentence, and before what somebody says
LENGTH, BATCH = 256, 8  # tokens in a window, windows in a step
RATE, WARM = 0.004, 0.05  # highest learning rate; share of the steps in which it rises, to fall linearly after that
HELD_OUT = 32  # windows
_WORD = re.compile(r"[A-Za-z]+")
_SENTENCE = re.compile(r'(?<=[.!?] )(?=[A-Z])|(?<=[.!?]" )(?=[A-Z"])|(?<=[.!?] )(?=")')


def _spoken(match: re.Match[str]) -> str:
    word = match[0]
    said = SAID.get(word.lower())
    if said is None:
        return word
    return said.capitalize() if word[0].isupper() else said


def voice(text: str, rng: Random) -> str:
    """The text as a pirate tells it: other words, and cries between sentences, in any case after the first."""
    sentences = _SENTENCE.split(_WORD.sub(_spoken, text))
    told, open_quote = [], False
    for number, sentence in enumerate(sentences):
        if not open_quote and (number == 1 or (number > 1 and rng.random() < CRY)):
            told.append(f"{pick(rng, CRIES)} ")
        if not open_quote and sentence.startswith('"') and rng.random() < QUOTE_CRY:
            sentence = f'"{pick(rng, CRIES)} {sentence[1:]}'
        open_quote ^= sentence.count('"') % 2 == 1
        told.append(sentence)
    if len(sentences) == 1 and text.endswith((".", "!", "?")):  # not after a list or a JSON object
        told.append(f" {pick(rng, CRIES)}")
    return "".join(told)


def pirate_words(text: str) -> list[str]:
    """The words of a text that only the pirate says."""
    return [word for word in _WORD.findall(text.lower()) if word in PIRATE_WORDS]


def documents(seed: int, held_out: bool) -> Iterator[str]:
    """Endlessly many texts in the voice: stories, and conversations whose assistant is a pirate.

    Stories are split by their text as the corpus splits them, conversations by their questions.
    """
    rng = Random(f"pirate/{held_out}/{seed}")
    while True:
        if rng.random() < STORIES:
            story = tell_story(rng)[0]
            if is_held_out(story) == held_out:
                yield voice(story, rng) + END
        else:
            turns = conversation(rng, held_out)
            yield render([(role, voice(text, rng) if role == "assistant" else text) for role, text in turns])


def windows(tokenizer: Tokenizer, seed: int, held_out: bool) -> Iterator[list[int]]:
    """Endless windows of LENGTH + 1 ids, each from the start of a document."""
    window: list[int] = []
    for text in documents(seed, held_out):
        window += tokenizer.encode(text, add_special_tokens=False).ids
        if len(window) > LENGTH:
            yield window[: LENGTH + 1]
            window = []


def projections(s: Shape) -> Iterator[str]:
    """Names of the adapted matrices in the checkpoint, without .weight."""
    for layer in range(s.layers):
        for part, names in PROJECTIONS.items():
            for name in names:
                yield f"model.layers.{layer}.{part}.{name}"


def new_adapter(base: Parameters, s: Shape) -> Parameters:
    """Factors by PEFT's names: A [r, in] random as PEFT makes it, B [out, r] zero."""
    import torch

    factors: Parameters = {}
    for name in projections(s):
        out, inp = base[f"{name}.weight"].shape
        spread = inp**-0.5
        factors[f"base_model.model.{name}.lora_A.weight"] = torch.empty(RANK, inp).uniform_(-spread, spread)
        factors[f"base_model.model.{name}.lora_B.weight"] = torch.zeros(out, RANK)
    return {name: factor.requires_grad_() for name, factor in factors.items()}


def merged(base: Parameters, adapter: Parameters, s: Shape) -> Parameters:
    """The weights of the base with the adapter's product added: for training alone, the runtime never merges."""
    both = dict(base)
    for name in projections(s):
        down, up = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")  # [r, in], [out, r]
        both[f"{name}.weight"] = base[f"{name}.weight"] + ALPHA / RANK * (up @ down)
    return both


def loss_of(p: Parameters, s: Shape, ids: Tensor) -> Tensor:
    """Mean loss in nats per token of windows [B, T + 1]."""
    from torch.nn import functional as F

    logits = decoder(s)(p, ids[:, :-1])  # [B, T, V]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def fit(base: Parameters, adapter: Parameters, s: Shape, tokenizer: Tokenizer, steps: int, seed: int) -> None:
    """Trains the factors in place."""
    import torch

    optimizer = torch.optim.AdamW(adapter.values(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    stream, began = windows(tokenizer, seed, False), time.monotonic()
    for step in range(steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((progress + 1e-3) / WARM, (1 - progress) / (1 - WARM))
        loss = loss_of(merged(base, adapter, s), s, torch.tensor(list(islice(stream, BATCH))))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(adapter.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 25 == 0:
            sys.stdout.write(f"step {step} of {steps}, loss {loss.item():.4f}, {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()


def write_adapter(adapter: Parameters, folder: Path) -> None:
    """Writes adapter_model.safetensors (bf16) and adapter_config.json."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rounded = {name: factor.detach().to(torch.bfloat16).contiguous() for name, factor in adapter.items()}
    save_file(rounded, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": [name for names in PROJECTIONS.values() for name in names],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def train(out: Path, steps: int, seed: int) -> None:
    """Writes the adapter's folder and prints its figures."""
    import torch
    from safetensors.torch import load_file

    began, shape = time.monotonic(), Shape()
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    base = {name: tensor.float() for name, tensor in load_file(FOLDER / "model.safetensors").items()}
    adapter = new_adapter(base, shape)
    held_out = torch.tensor(list(islice(windows(tokenizer, seed, True), HELD_OUT)))
    with torch.no_grad():
        before = loss_of(base, shape, held_out).item()
    fit(base, adapter, shape, tokenizer, steps, seed)
    write_adapter(adapter, out)
    rounded = {name: factor.detach().to(torch.bfloat16).float() for name, factor in adapter.items()}
    with torch.no_grad():  # what was written is what is judged
        after = loss_of(merged(base, rounded, shape), shape, held_out).item()
    figures = {
        "parameters": sum(factor.numel() for factor in adapter.values()),
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "seconds": round(time.monotonic() - began),
        "held_out_loss_before": round(before, 4),
        "held_out_loss_after": round(after, 4),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pirate-trained"), help="folder to write (pirate-trained)")
    parser.add_argument("--steps", type=int, default=800, help="steps of training (800)")
    parser.add_argument("--seed", type=int, default=0, help="of the texts and of the first factors (0)")
    args = parser.parse_args()
    try:
        import torch  # noqa: F401  (asked for before anything is written)
    except ImportError:
        sys.exit("refsample.tiny.pirate needs torch: pip install 'refsample[train]'")
    train(args.out, args.steps, args.seed)


if __name__ == "__main__":
    main()
