"""Broken model folders and adapters"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any

import numpy as np
import pytest
import safetensors
import tokenizers
from numpy.typing import NDArray

from refsample.errors import ModelError
from refsample.model.config import ModelConfig
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
from tests.model.mutate import Mutation
from tests.model.small import CONFIGS, write_family

OTHERS = ("tensor ", "is not JSON", "not a tokenizer", "rope", "layer_types", "short_factor", "rotary_pct")
"""What an error may name in place of a key: the file is none, or another key or a tensor does not go with it."""
SECONDS, BYTES = 20, 2**30
"""What reading one folder may take at most: far more than it does, far less than a hang or a size believed."""
PROBE = "The theremin in 10 cans: naïve ☃\n<|user|>"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class Hang(BaseException):
    """Reading took too long."""


@contextmanager
def limits() -> Iterator[None]:
    """Time and memory, those that Python's own exceptions can tell of."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    old = resource.getrlimit(resource.RLIMIT_AS)
    try:
        if sys.platform == "linux":
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, old[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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
    where = Path(mkdtemp(prefix="refsample-test-"))
    if name == "sharded":
        return write_llama(where / name, shards=3, tied=False)
    return write_family(where / name, CONFIGS[name])


@cache
def original(name: str) -> Loaded:
    return load(folder_of(name))


Judge = Callable[[Path, Mutation], list[str]]


def run_all(folder: Path, mutations: Iterable[Mutation], attempt: Callable[[], list[str]]) -> list[str]:
    """Each mutation made, read and taken back; what went wrong."""
    wrong = []
    for mutation in mutations:
        path = folder / mutation.file
        kept = path.read_bytes() if path.exists() else None
        try:
            mutate.remove(path)
            mutation.change(path)
            wrong += [f"{mutation.file}: {mutation.what}: {fault}" for fault in outcome(folder, mutation, attempt)]
        finally:
            mutate.remove(path)
            if kept is not None:
                path.write_bytes(kept)
    return wrong


def outcome(folder: Path, mutation: Mutation, attempt: Callable[[], list[str]]) -> list[str]:
    try:
        with limits():
            faults = attempt()
    except ModelError as error:
        return message_faults(str(error), folder, mutation)
    except (Exception, Hang, tokenizers_panic()) as error:  # noqa: BLE001 - the point of the test
        return [f"{type(error).__name__}: {str(error)[:300]}"]
    return ["loaded"] if mutation.must_fail else faults


def tokenizers_panic() -> type[BaseException]:
    return KeyboardInterrupt.__mro__[1]


def message_faults(text: str, folder: Path, mutation: Mutation) -> list[str]:
    faults = []
    if not text.isprintable() or len(text) > 800:
        faults.append(f"not one short line: {text[:1000]!r}")
    if str(folder) not in text:
        faults.append(f"names no file: {text}")
    if mutation.names and not any(name in text for name in mutation.names) and not any(w in text for w in OTHERS):
        faults.append(f"names none of {mutation.names}: {text}")
    return faults


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield value


def judge_config(name: str) -> Callable[[], list[str]]:
    folder = folder_of(name)
    old = json.loads((folder / "config.json").read_text())

    def attempt() -> list[str]:
        now = load(folder)
        new = strict((folder / "config.json").read_bytes())
        if new is None:
            return ["loaded from what is no JSON object"]
        faults = config_faults(old, new, original(name).run.config, now.run.config)
        absurd = any(number >= 2**30 for number in numbers(new))
        return faults + ([] if absurd or np.isfinite(now.logits).all() else ["not finite"])

    return attempt


EACH = int(os.environ.get("EACH", "8"))


def check(folder: Path, mutations: Iterable[Mutation], attempt: Callable[[], list[str]]) -> None:
    made = list(mutations)
    wrong = run_all(folder, made, attempt)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(made)}:", *wrong])


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(name: str) -> None:
    folder = folder_of(name)
    original(name)
    raw = json.loads((folder / "config.json").read_text())
    rng = random.Random(f"config {name}")
    made = chain(
        mutate.values("config.json", raw, rng, EACH),
        mutate.texts("config.json", json.dumps(raw).encode(), rng, EACH),
        mutate.no_files("config.json"),
    )
    check(folder, made, judge_config(name))


def data_of(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Every tensor of a folder, by the format's own library."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, view in safetensors.deserialize(path.read_bytes()):
            assert name not in found
            found[name] = (view["dtype"], view["shape"], bytes(view["data"]))
    return found


def judge_weights(name: str) -> Callable[[], list[str]]:
    """What loads is what the format's own library reads, and what was there before save for a bit of the data."""
    folder = folder_of(name)
    before = data_of(folder)

    def attempt() -> list[str]:
        load(folder)
        try:
            theirs = data_of(folder)
        except Exception as error:  # noqa: BLE001 - whatever it raises
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


SHARD = "model-00002-of-00003.safetensors"


@pytest.mark.parametrize("name", ["llama", "mixtral", "gemma3_text", "gpt2", "gpt_neox", "falcon_new", "sharded"])
def test_weights(name: str) -> None:
    folder = folder_of(name)
    original(name)
    file = SHARD if name == "sharded" else WEIGHTS
    raw = (folder / file).read_bytes()
    rng = random.Random(f"weights {name}")
    made = chain(
        headers.bits(file, raw, rng, 4 * EACH),
        headers.entries(file, raw, rng, EACH),
        headers.tensors(file, raw, rng, 1 + EACH // 4),
        mutate.no_files(file),
    )
    check(folder, made, judge_weights(name))


def test_index() -> None:
    folder = folder_of("sharded")
    raw = (folder / INDEX).read_bytes()
    rng = random.Random("index")
    made = chain(
        mutate.indexes(INDEX, json.loads(raw), rng), mutate.texts(INDEX, raw, rng, 2 * EACH), mutate.no_files(INDEX)
    )
    check(folder, made, judge_weights("sharded"))


@pytest.mark.parametrize("name", ["llama", "falcon"])
def test_generation_configs(name: str) -> None:
    folder = folder_of(name)
    raw = (folder / "generation_config.json").read_bytes()
    rng = random.Random(f"generation {name}")

    def attempt() -> list[str]:
        now = load(folder)
        path = folder / "generation_config.json"
        new = strict(path.read_bytes()) if path.exists() else {}
        ids = (new or {}).get("eos_token_id")
        ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
        right = all(type(one) is int for one in ids) and now.run.config.eos_token_ids == tuple(sorted({0, *ids}))
        return [] if new is not None and right else [f"end ids {now.run.config.eos_token_ids}"]

    made = chain(
        mutate.values("generation_config.json", json.loads(raw), rng, 40),
        mutate.texts("generation_config.json", raw, rng, EACH),
        mutate.no_files("generation_config.json", needed=False),
    )
    check(folder, (m for m in made if not m.what.startswith("surprise")), attempt)


def judge_adapter(folder: Path) -> Callable[[], list[str]]:
    """The factors are those of before, and their scale is what the file says."""
    base = original("llama").run
    old = json.loads((folder / "adapter_config.json").read_text())
    before = pairs(read_adapter(folder, base.config, base.source))
    data = data_of(folder)

    def attempt() -> list[str]:
        adapter = read_adapter(folder, base.config, base.source)
        base.with_adapter(adapter).forward([([0, 5], base.new_cache())])
        new = strict((folder / "adapter_config.json").read_bytes())
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


def test_adapters() -> None:
    folder = write_lora(
        Path(mkdtemp(prefix="refsample-test-")) / "lora", use_rslora=False, bias="none", rank_pattern={},
        layers_to_transform=None, modules_to_save=None, lora_dropout=0.1, init_lora_weights=True, inference_mode=True,
        exclude_modules=None, use_dora=False, layers_pattern=None, alpha_pattern={}, fan_in_fan_out=False,
    )  # fmt: skip
    raw = json.loads((folder / "adapter_config.json").read_text())
    tensors = (folder / "adapter_model.safetensors").read_bytes()
    rng = random.Random("adapter")
    made = chain(
        mutate.values("adapter_config.json", raw, rng, EACH),
        mutate.texts("adapter_config.json", json.dumps(raw).encode(), rng, EACH),
        mutate.no_files("adapter_config.json"),
        headers.bits("adapter_model.safetensors", tensors, rng, 4 * EACH),
        headers.entries("adapter_model.safetensors", tensors, rng, EACH),
        (m for m in headers.tensors("adapter_model.safetensors", tensors, rng, 3) if "a bit of" not in m.what),
        mutate.no_files("adapter_model.safetensors"),
    )
    check(folder, made, judge_adapter(folder))


def judge_tokenizer(name: str) -> Callable[[], list[str]]:
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
        path = folder / "tokenizer_config.json"
        new = strict(path.read_bytes()) if path.exists() else {}
        if new is None:
            return ["loaded from what is no JSON object"]
        end = new.get("eos_token")
        text = end.get("content") if isinstance(end, dict) else end
        if text is not None and not isinstance(text, str):
            return ["an end token that is no text was let through"]
        ids = {0, 1} | (set() if text is None else {theirs.token_to_id(text)})
        return faults + ([] if set(now.tokenizer.eos_token_ids) == ids else ["other end ids"])

    return attempt


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_tokenizers(name: str) -> None:
    folder = folder_of(name)
    original(name)
    raw = (folder / "tokenizer.json").read_bytes()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    rng = random.Random(f"tokenizer {name}")
    table = json.loads(raw)
    few = {**table["model"], "vocab": {}, "merges": []}
    parts = mutate.values("tokenizer.json", {**table, "model": few}, rng, EACH)
    made = chain(
        (m for m in mutate.values("tokenizer.json", table, rng, EACH) if " twice" not in m.what and "vocab." not in m.what),
        mutate.values("tokenizer_config.json", config, rng, EACH),
        mutate.texts("tokenizer_config.json", json.dumps(config).encode(), rng, EACH),
        mutate.no_files("tokenizer.json"),
        mutate.no_files("tokenizer_config.json", needed=False),
    )
    check(folder, (m for m in made if not m.what.startswith("surprise")), judge_tokenizer(name))
