"""Broken model folders and adapters: a named error or a load that is right, never a crash, a hang or a silent one.

About 5,000 mutated files, seeded, over 21 folders of every family of the table (`tests.model.small`) and one adapter:
config.json (each key dropped and at hostile values, unknown keys, keys twice, cut and flipped bytes, other encodings),
generation_config.json, tokenizer.json, tokenizer_config.json and adapter_config.json likewise; safetensors files
(flipped bits and wrong lengths of the header, truncations at every kind of place, each field of an entry at hostile
values, tensors left out, renamed, reshaped, of another type); the index of shards; folders, links, pipes and devices
where files should be.

An error is one line of the ModelError tree that names the file and the key or tensor. A load is right if an
independent reading of the file says so: for configs `tests.model.judge`, for weights the safetensors library, for the
tokenizer the tokenizers library. Each read has a limit of time and of memory, and what loads runs over a few ids.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import safetensors
import tokenizers
from numpy.typing import NDArray

from refsample.model.load import load_transformer
from refsample.model.lora import Adapter, LowRank, read_adapter
from refsample.model.tensors import open_tensors
from refsample.model.transformer import Transformer
from refsample.text.chat import load_template
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.adapters import write_lora
from tests.factories import write_llama
from tests.model import headers, mutate
from tests.model.judge import config_faults, strict
from tests.model.limits import Attempt, check
from tests.model.mutate import Mutation
from tests.model.small import CONFIGS, write_family

PROBE = "The theremin in 10 cans: naïve ☃\n<|user|>"
WEIGHTS, INDEX, SHARD = "model.safetensors", "model.safetensors.index.json", "model-00002-of-00003.safetensors"
CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
TOKENIZER_CONFIG, ADAPTER, FACTORS = "tokenizer_config.json", "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A folder that loaded."""

    run: Transformer
    tokenizer: Tokenizer
    logits: NDArray[Any]


def load(folder: Path) -> Loaded:
    """Everything that a folder is read for, and a pass over three ids."""
    run = load_transformer(folder)
    tokenizer = load_tokenizer(folder, run.config)
    load_template(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numbers that are allowed and absurd overflow
        logits = run.forward([([0, 5, 7][: run.config.max_position], run.new_cache())])[0]
    return Loaded(run, tokenizer, logits)


@cache
def folder_of(name: str) -> Path:
    where = Path(mkdtemp(prefix="refsample-test-")) / name
    if name == "sharded":
        return write_llama(where, shards=3, tied=False)
    if name == "lora":
        return write_lora(
            where, use_rslora=False, bias="none", rank_pattern={}, layers_to_transform=None, modules_to_save=None,
            lora_dropout=0.1, init_lora_weights=True, inference_mode=True, exclude_modules=None, use_dora=False,
            layers_pattern=None, alpha_pattern={}, fan_in_fan_out=False,
        )  # fmt: skip
    return write_family(where, CONFIGS[name])


@cache
def original(name: str) -> Loaded:
    return load(folder_of(name))


def read(name: str, file: str) -> dict[str, Any] | None:
    """A JSON file as it is now, empty where there is none; None where it holds something else."""
    path = folder_of(name) / file
    return strict(path.read_bytes()) if path.exists() else {}


def seeded(name: str, file: str) -> tuple[dict[str, Any], bytes, random.Random]:
    raw = (folder_of(name) / file).read_bytes()
    return ({} if file.endswith("safetensors") else json.loads(raw)), raw, random.Random(f"{name} {file}")


def json_file(name: str, file: str, each: int, needed: bool = True) -> Iterator[Mutation]:
    table, _, rng = seeded(name, file)
    flat = json.dumps(table).encode()
    return chain(mutate.values(file, table, rng, each), mutate.texts(file, flat, rng, 8), mutate.no_files(file, needed))


def weight_file(name: str, file: str) -> Iterator[Mutation]:
    _, raw, rng = seeded(name, file)
    return chain(
        headers.bits(file, raw, rng, 40), headers.entries(file, raw, rng, 8), headers.tensors(file, raw, rng, 2),
        mutate.no_files(file),
    )  # fmt: skip


def mutations_of(name: str, file: str) -> list[Mutation]:
    """What is done to one file of one folder."""
    if file.endswith("safetensors"):
        made = weight_file(name, file)
        # a bit of an adapter may make it NaN, which is refused, or make it another one
        return [m for m in made if file != FACTORS or "a bit of" not in m.what]
    if file == INDEX:
        table, raw, rng = seeded(name, file)
        return [*mutate.indexes(file, table, rng), *mutate.texts(file, raw, rng, 20), *mutate.no_files(file)]
    needed = file not in (GENERATION, TOKENIZER_CONFIG)
    made = json_file(name, file, {CONFIG: 3, ADAPTER: 5}.get(file, 4), needed)
    if file == TOKENIZER:  # its library lets a key that is there twice win and any other key be
        made = (m for m in made if not m.what.endswith(" twice") and "flipped" not in m.what and "mark" not in m.what)
        made = (m for i, m in enumerate(made) if "vocab." not in m.what or i % 20 == 0)
    return list(made) if file in (CONFIG, ADAPTER) else [m for m in made if "surprise" not in m.what]


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield value


def of_config(name: str) -> Attempt:
    old = read(name, CONFIG)
    before = original(name).run.config

    def attempt() -> list[str]:
        now, new = load(folder_of(name)), read(name, CONFIG)
        if old is None or new is None:
            return ["loaded from what is no JSON object"]
        faults = config_faults(old, new, before, now.run.config)
        absurd = any(number >= 2**30 for number in numbers(new))
        return faults + ([] if absurd or np.isfinite(now.logits).all() else ["not finite"])

    return attempt


def data_of(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Every tensor of a folder, by the format's own library."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, view in safetensors.deserialize(path.read_bytes()):
            assert name not in found
            found[name] = (view["dtype"], view["shape"], bytes(view["data"]))
    return found


def of_weights(name: str) -> Attempt:
    """What loads is what the format's own library reads, and what was there before save for a bit of the data."""
    folder = folder_of(name)
    before = data_of(folder)

    def attempt() -> list[str]:
        load(folder)
        try:
            theirs = data_of(folder)
        except Exception as error:  # noqa: BLE001  # whatever it raises
            return [f"loaded, but safetensors says {error}"]
        ours = {n: (t.dtype, list(t.data.shape), t.data.tobytes()) for n, t in open_tensors(folder).items()}
        faults = [] if ours == theirs else ["safetensors reads something else"]
        flips = 0
        for key in {*ours, *before}:
            (dtype, shape, data), (dtype0, shape0, data0) = ours.get(key, ("", [], b"")), before.get(key, ("", [], b""))
            if (dtype, shape, len(data)) != (dtype0, shape0, len(data0)):
                faults.append(f"{key} changed")
            elif data != data0:
                flips += sum((a ^ b).bit_count() for a, b in zip(data, data0, strict=True))
        return faults + ([f"{flips} bits changed"] if flips > 1 else [])

    return attempt


def of_generation(name: str) -> Attempt:
    def attempt() -> list[str]:
        now, new = load(folder_of(name)), read(name, GENERATION)
        ids = (new or {}).get("eos_token_id")
        ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
        right = all(type(one) is int for one in ids) and now.run.config.eos_token_ids == tuple(sorted({0, *ids}))
        return [] if new is not None and right else [f"end ids {now.run.config.eos_token_ids}"]

    return attempt


def of_adapter(name: str) -> Attempt:
    """The factors are those of before, and their scale is what the file says."""
    folder, base, old = folder_of(name), original("llama").run, read(name, ADAPTER)
    assert old is not None
    before = pairs(read_adapter(folder, base.config, base.source))
    data = data_of(folder)

    def attempt() -> list[str]:
        adapter = read_adapter(folder, base.config, base.source)
        base.with_adapter(adapter).forward([([0, 5], base.new_cache())])
        new = read(name, ADAPTER)
        if new is None:
            return ["loaded from what is no JSON object"]
        faults = [] if data_of(folder) == data else ["other tensors"]
        rank, alpha, root = new.get("r", 8), new.get("lora_alpha", 8), new.get("use_rslora", False)
        if type(rank) is not int or type(alpha) not in (int, float) or type(root) is not bool:
            return [*faults, "a setting of the wrong kind was let through"]
        scale = alpha / (rank**0.5 if root else rank)
        now = pairs(adapter)
        faults += [] if now.keys() == before.keys() else ["other modules"]
        for key in now.keys() & before.keys():
            same = all(np.array_equal(a, b) for a, b in zip(now[key][:2], before[key][:2], strict=True))
            faults += [] if same and now[key][2] == scale else [f"{key} changed"]
        known = {*old, "revision", "task_type", "peft_type"}
        unknown = [k for k, v in new.items() if k not in known and v not in (None, False, "", [], {})]
        return faults + [f"{key} was let through" for key in unknown]

    return attempt


def pairs(adapter: Adapter) -> dict[str, tuple[NDArray[Any], NDArray[Any], float]]:
    flat: dict[str, LowRank] = {f"{n}.{k}": pair for n, layer in enumerate(adapter.layers) for k, pair in layer.items()}
    return {key: (pair.down, pair.up, pair.scale) for key, pair in flat.items()}


def of_tokenizer(name: str) -> Attempt:
    """The tokenizer is the one that its library reads from the file, and the end ids are those that the files name."""
    folder = folder_of(name)

    def attempt() -> list[str]:
        now = load(folder)
        theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        theirs.no_truncation()
        theirs.no_padding()
        ours, want = now.tokenizer.encode(PROBE), theirs.encode(PROBE).ids
        faults = [] if ours == want == now.tokenizer.encode(PROBE) else ["other ids than the library's"]
        now.run.forward([(ours or [0], now.run.new_cache())])
        now.tokenizer.decode(range(now.run.config.vocab_size))
        new = read(name, TOKENIZER_CONFIG)
        if new is None:
            return ["loaded from what is no JSON object"]
        end = new.get("eos_token")
        text = end.get("content") if isinstance(end, dict) else end
        if text is not None and not isinstance(text, str):
            return ["an end token that is no text was let through"]
        ids = {0, 1} | (set() if text is None else {theirs.token_to_id(text)})
        return faults + ([] if set(now.tokenizer.eos_token_ids) == ids else ["other end ids"])

    return attempt


JUDGES: dict[str, Callable[[str], Attempt]] = {
    CONFIG: of_config, WEIGHTS: of_weights, SHARD: of_weights, INDEX: of_weights, GENERATION: of_generation,
    TOKENIZER: of_tokenizer, TOKENIZER_CONFIG: of_tokenizer, ADAPTER: of_adapter, FACTORS: of_adapter,
}  # fmt: skip
PLAN = [
    *((name, CONFIG) for name in CONFIGS),
    *((name, WEIGHTS) for name in ("llama", "mixtral", "gemma3_text", "gpt2", "gpt_neox", "falcon_new")),
    ("sharded", SHARD), ("sharded", INDEX), ("llama", GENERATION), ("falcon", GENERATION), ("llama", TOKENIZER),
    ("llama", TOKENIZER_CONFIG), ("lora", ADAPTER), ("lora", FACTORS),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file"), PLAN)
def test_broken(name: str, file: str) -> None:
    check(folder_of(name), mutations_of(name, file), JUDGES[file](name))


def test_there_are_enough_and_the_same_each_time() -> None:
    """At least those that the project promises; a few places say whether the seeds hold."""
    assert sum(len(mutations_of(*place)) for place in PLAN) >= 2000
    for place in PLAN[::7]:
        assert [m.what for m in mutations_of(*place)] == [m.what for m in mutations_of(*place)]
