"""Trains `tiny` from nothing: `python -m refsample.tiny.train` (extra `train`); knows no sampler and no runtime.

The decoder is written out here in torch on a plain dict of parameters that bear the names of a Hugging Face Llama
checkpoint. Muon for the matrices, AdamW for embedding and norms; constant rate, then a linear fall to zero (WSD).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from refsample.tiny.vocabulary import CONTEXT, SPECIALS, VOCABULARY, build_tokenizer, windows, write_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    Parameters = dict[str, Tensor]

TOKENS = 24_000_000
BATCH_TOKENS = 4096
# Up to which share of the training windows have which length: near examples first, since to look back over a long
# window is learned more easily by a model that looks back already.
STAGES = ((0.15, 128), (0.65, 256), (1.0, CONTEXT))
ANSWER = 3.0  # weight of a token that an assistant says
WARM, FALL = 0.02, 0.4  # shares in which the rate rises at the beginning and falls to zero at the end
RATE_MATRIX, RATE_OTHER = 0.005, 0.002  # at 0.02 attention saturates and nothing is looked up any more
HELD_OUT_WINDOWS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the decoder; every row length is a multiple of 32, the group of the int4 emulation."""

    vocabulary: int = VOCABULARY  # V
    width: int = 192  # C
    layers: int = 6  # L
    heads: int = 6  # H
    kv_heads: int = 3  # K
    head: int = 32  # D
    inner: int = 512  # F
    theta: float = 10000.0
    eps: float = 1e-5


def new_parameters(s: Shape) -> Parameters:
    """Random parameters; the head is tied to the embedding and so has none."""
    import torch

    def matrix(rows: int, columns: int, std: float) -> Tensor:
        return torch.empty(rows, columns).normal_(std=std).requires_grad_()

    p: Parameters = {"model.embed_tokens.weight": matrix(s.vocabulary, s.width, 0.02)}
    queries, keys, shrink = s.heads * s.head, s.kv_heads * s.head, (2 * s.layers) ** -0.5
    for layer in range(s.layers):
        at = f"model.layers.{layer}."
        for name, rows, columns, scale in (
            ("self_attn.q_proj", queries, s.width, 1.0),
            ("self_attn.k_proj", keys, s.width, 1.0),
            ("self_attn.v_proj", keys, s.width, 1.0),
            ("self_attn.o_proj", s.width, queries, shrink),
            ("mlp.gate_proj", s.inner, s.width, 1.0),
            ("mlp.up_proj", s.inner, s.width, 1.0),
            ("mlp.down_proj", s.width, s.inner, shrink),
        ):
            p[f"{at}{name}.weight"] = matrix(rows, columns, scale * columns**-0.5)
        p[at + "input_layernorm.weight"] = torch.ones(s.width, requires_grad=True)
        p[at + "post_attention_layernorm.weight"] = torch.ones(s.width, requires_grad=True)
    p["model.norm.weight"] = torch.ones(s.width, requires_grad=True)
    return p


def decoder(s: Shape) -> Callable[[Parameters, Tensor], Tensor]:
    """The function (parameters, ids [B, T]) -> logits [B, T, V]."""
    import torch
    from torch.nn import functional as F

    inverse = s.theta ** (-torch.arange(0, s.head, 2) / s.head)
    angles = torch.outer(torch.arange(CONTEXT), inverse)  # [T, D/2]
    cosines, sines = angles.cos(), angles.sin()

    def rotate(x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)  # [B, T, H, D/2]
        cos, sin = cosines[: x.shape[1], None], sines[: x.shape[1], None]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype).transpose(1, 2)

    def forward(p: Parameters, ids: Tensor) -> Tensor:
        b, t = ids.shape
        x = F.embedding(ids, p["model.embed_tokens.weight"])  # [B, T, C]
        for layer in range(s.layers):
            w = {
                name: p[f"model.layers.{layer}.{name}.weight"]
                for name in (
                    "self_attn.q_proj",
                    "self_attn.k_proj",
                    "self_attn.v_proj",
                    "self_attn.o_proj",
                    "mlp.gate_proj",
                    "mlp.up_proj",
                    "mlp.down_proj",
                    "input_layernorm",
                    "post_attention_layernorm",
                )
            }
            h = F.rms_norm(x, (s.width,), w["input_layernorm"], s.eps)
            q = rotate(F.linear(h, w["self_attn.q_proj"]).view(b, t, s.heads, s.head))  # [B, H, T, D]
            k = rotate(F.linear(h, w["self_attn.k_proj"]).view(b, t, s.kv_heads, s.head))  # [B, K, T, D]
            v = F.linear(h, w["self_attn.v_proj"]).view(b, t, s.kv_heads, s.head).transpose(1, 2)  # [B, K, T, D]
            k, v = (z.repeat_interleave(s.heads // s.kv_heads, 1) for z in (k, v))  # [B, H, T, D]
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, -1)
            x = x + F.linear(mixed, w["self_attn.o_proj"])
            h = F.rms_norm(x, (s.width,), w["post_attention_layernorm"], s.eps)
            gated = F.silu(F.linear(h, w["mlp.gate_proj"])) * F.linear(h, w["mlp.up_proj"])  # [B, T, F]
            x = x + F.linear(gated, w["mlp.down_proj"])
        return F.linear(F.rms_norm(x, (s.width,), p["model.norm.weight"], s.eps), p["model.embed_tokens.weight"])

    return forward


def write_model(p: Parameters, s: Shape, folder: Path) -> None:
    """Writes model.safetensors (bf16), config.json (as transformers 4 and 5 both read it), generation_config.json."""
    import torch
    from safetensors.torch import save_file

    save_file(
        {n: x.detach().to(torch.bfloat16).contiguous() for n, x in p.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "head_dim": s.head,
        "hidden_act": "silu",
        "hidden_size": s.width,
        "initializer_range": 0.02,
        "intermediate_size": s.inner,
        "max_position_embeddings": CONTEXT,
        "mlp_bias": False,
        "num_attention_heads": s.heads,
        "num_hidden_layers": s.layers,
        "num_key_value_heads": s.kv_heads,
        "rms_norm_eps": s.eps,
        "rope_theta": s.theta,
        "rope_scaling": None,
        "rope_parameters": {"rope_theta": s.theta, "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": s.vocabulary,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}, indent=2) + "\n")


def held_out_loss(p: Parameters, s: Shape, tokenizer: Tokenizer, seed: int) -> tuple[float, float]:
    """Mean loss in nats per token at positions 0-511 and 512-1023 of held-out windows."""
    import torch
    from torch.nn import functional as F

    forward = decoder(s)
    ids = torch.tensor(list(islice(windows(tokenizer, seed, "held_out"), HELD_OUT_WINDOWS)))  # [B, T+1]
    with torch.no_grad():
        losses = torch.stack([
            F.cross_entropy(forward(p, row[None, :-1])[0], row[1:], reduction="none") for row in ids
        ])  # [B, T]  # fmt: skip
    return float(losses[:, :512].mean()), float(losses[:, 512:].mean())


def answer_weights(ids: Tensor) -> Tensor:
    """ids [B, T] -> weights [B, T] of the losses of the tokens after them: ANSWER within an assistant's turn, else 1.

    Answers are a fifth of the text and all of what has to be right; a weight does not move the law that is learned.
    """
    import torch

    places = torch.arange(ids.shape[1]).expand_as(ids)  # [B, T]
    last = torch.where(ids < len(SPECIALS), places, 0).cummax(dim=1).values  # place of the last special token
    return torch.where(ids.gather(1, last) == SPECIALS.index("<|assistant|>"), ANSWER, 1.0)


def rate(progress: float) -> float:
    """The learning rate, as a share of the highest one, when `progress` of the training, from 0 to 1, is done."""
    return min(1.0, (progress + 1e-4) / WARM, (1.0 - progress) / FALL)


def optimizers(p: Parameters) -> list[Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    import torch

    matrices = [x for n, x in p.items() if "_proj" in n]
    rest = [x for n, x in p.items() if "_proj" not in n]
    return [
        torch.optim.Muon(matrices, lr=RATE_MATRIX, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=RATE_OTHER, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. With `minutes` > 0 the clock, not the number of tokens, says how far the training is."""

    tokens: int
    seed: int
    minutes: float
    compiled: bool


def fit(p: Parameters, s: Shape, tokenizer: Tokenizer, plan: Plan) -> tuple[int, float]:
    """Trains the parameters in place; returns the tokens seen and the smoothed last loss."""
    import torch
    from torch.nn import functional as F

    forward = decoder(s)

    def objective(p: Parameters, ids: Tensor, weights: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward(p, ids[:, :-1])  # [B, T, V]
        losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")  # [B*T]
        return (losses * weights).sum() / weights.sum()

    # Compiled, a third faster, for half a minute of compiling per window length and with a C++ compiler at hand.
    loss_of = torch.compile(objective, dynamic=False) if plan.compiled else objective
    chosen = optimizers(p)
    groups = [(group, group["lr"]) for optimizer in chosen for group in optimizer.param_groups]
    streams = [(end, length, windows(tokenizer, plan.seed + 1000 * i, "train", length + 1))
               for i, (end, length) in enumerate(STAGES)]  # fmt: skip
    step, smooth, progress, began = 0, 0.0, 0.0, time.monotonic()
    while progress < 1.0:
        length, stream = next((length, stream) for end, length, stream in streams if progress < end)
        ids = torch.tensor(list(islice(stream, BATCH_TOKENS // length)))  # [B, T+1]
        for group, highest in groups:
            group["lr"] = highest * rate(progress)
        loss = loss_of(p, ids, answer_weights(ids[:, :-1]).flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        step += 1
        spent = time.monotonic() - began
        progress = spent / (60 * plan.minutes) if plan.minutes > 0 else step * BATCH_TOKENS / plan.tokens
        if step % 50 == 0:
            line = f"step {step}, {progress:.1%} done, windows of {length}, loss {smooth:.4f}, {spent:.0f} s"
            print(line, flush=True)
    return step * BATCH_TOKENS, smooth


def train(out: Path, plan: Plan) -> None:
    """Writes a whole model folder to `out` and prints its figures."""
    import torch

    began = time.monotonic()
    torch.manual_seed(plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(plan.seed)
    write_tokenizer(tokenizer, out)
    shape = Shape()
    p = new_parameters(shape)
    size = sum(x.numel() for x in p.values())
    print(f"parameters {size}, tokenizer after {time.monotonic() - began:.0f} s", flush=True)
    seen, last = fit(p, shape, tokenizer, plan)
    write_model(p, shape, out)
    rounded = {n: x.detach().to(torch.bfloat16).float() for n, x in p.items()}  # what was written is what is judged
    early, late = held_out_loss(rounded, shape, tokenizer, plan.seed + 1)
    figures = {
        "parameters": size,
        "tokens": seen,
        "seconds": round(time.monotonic() - began),
        "train_loss": round(last, 4),
        "held_out_loss_0_511": round(early, 4),
        "held_out_loss_512_1023": round(late, 4),
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tiny-trained"), help="folder to write (tiny-trained)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"tokens to train on ({TOKENS})")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus and of the first weights (0)")
    parser.add_argument("--minutes", type=float, default=0.0, help="train for so long instead of for --tokens")
    parser.add_argument("--eager", action="store_true", help="do not compile: slower, needs no C++ compiler")
    args = parser.parse_args()
    try:
        import torch  # noqa: F401  (asked for before a minute is spent on the tokenizer)
    except ImportError:
        sys.exit("refsample.tiny.train needs torch: pip install 'refsample[train]'")
    train(args.out, Plan(args.tokens, args.seed, args.minutes, not args.eager))


if __name__ == "__main__":
    main()
