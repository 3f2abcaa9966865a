"""Models that stay on disk score as models in memory do, to the last bit, however often they are stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refsample
from refsample.errors import (
    ContextLengthError,
    CorruptFileError,
    MissingFileError,
    ParameterError,
    UnsupportedModelError,
)
from refsample.generation import forest, prefill, resume, streaming
from refsample.generation.scoring import Scored, Transcript, score_many
from refsample.generation.streaming import Passed
from refsample.model import shelf
from refsample.model.load import load_transformer
from refsample.model.transformer import Transformer
from tests.adapters import write_lora
from tests.data.make_family_folders import FOLDER, SIZES
from tests.factories import write_llama
from tests.house.sources import PACKAGES

PARAMS = {"temperature": 0.7, "top_k": 30}


def transcripts(count: int = 12, most: int = 40, vocab: int = 268, seed: int = 0) -> list[Transcript]:
    """With shared beginnings and without, prompts of every length."""
    rng = np.random.default_rng(seed)
    stem = rng.integers(0, vocab, most).tolist()
    made = []
    for _ in range(count):
        head = stem[: int(rng.integers(0, most // 2))]
        ids = (*head, *rng.integers(0, vocab, int(rng.integers(2, most // 2))).tolist())
        made.append(Transcript(ids, int(rng.integers(1, len(ids)))))
    return made


def scored(folder: Path, items: Sequence[Transcript], **how: Any) -> list[Scored]:
    """By a model in memory, or one on disk (`stream_layers`)."""
    opened = {name: how.pop(name) for name in ("stream_layers", "precision", "adapter") if name in how}
    return list(score_many(refsample.load(folder, **opened), items, PARAMS, top=2, **how))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("streamed"), layers=4, shards=3)


@pytest.mark.parametrize("name", ["mistral", "mixtral", "gemma3_text", "gpt2", "gpt_neox", "falcon-new", "qwen3_moe"])
def test_families(name: str) -> None:
    """Windows, experts, learned positions, and matrices that a folder holds in another order."""
    items = [(one.start, one.ids) for one in transcripts(6, 40, SIZES["vocab_size"])]
    run, held = load_transformer(FOLDER / "v5" / name, stream_layers=True), load_transformer(FOLDER / "v5" / name)
    paths = [forest.Path(ids, start - 1, 0, len(ids)) for start, ids in items]
    rows = {}
    for found in streaming.Streamed(run, [paths]).rows(0):
        for n, logits in enumerate(found.logits):
            rows |= {(p, found.position + n): logits for p in found.stem.members}
    for p, (start, ids) in enumerate(items):
        (want,) = held.forward([(ids, held.new_cache(len(ids)))], rows="all")
        got = np.stack([rows[p, t] for t in range(start - 1, len(ids))])
        assert got.tobytes() == want[start - 1 :].tobytes()
    (again,) = run.forward([(ids, run.new_cache(len(ids)))], rows="all")
    assert again.tobytes() == want.tobytes()


@pytest.mark.parametrize(("tokens", "logits", "room"), [(2048, 1 << 26, 1 << 29), (7, 5000, 30_000), (1, 1, 1)])
def test_every_split(folder: Path, tokens: int, logits: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    items = transcripts(12 if tokens > 1 else 4)
    want = scored(folder, items)
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", tokens)
    monkeypatch.setattr(prefill, "LOGITS_BYTES", logits)
    monkeypatch.setattr(streaming, "ROOM", room)
    told: list[int] = []
    seen: list[Passed] = []
    assert scored(folder, items, stream_layers=True, progress=told.append, watch=seen.append) == want
    assert sum(told) == sum(len(one.ids) - one.start for one in items)
    assert seen[-1].work == seen[-1].to_do and seen[-1].read == seen[-1].to_read
    assert [one.work for one in seen] == sorted(one.work for one in seen)
    assert seen[-1].waves == (len(items) if room == 1 else 1 if room > 1 << 20 else seen[-1].waves)


@pytest.mark.parametrize("name", ["float64", "bf16", "shuffled", "int8-token", "q4_0", "kv-int8"])
def test_precisions(folder: Path, name: str) -> None:
    items = transcripts(4)
    want = scored(folder, items, precision=name)
    got = scored(folder, items, precision=name, stream_layers=True)
    if name != "float64":  # BLAS promises less
        assert got == want
    for one, other in zip(got, want, strict=True):
        assert one.raw_total == pytest.approx(other.raw_total, rel=1e-12)


def test_adapters_and_lengths(tmp_path: Path) -> None:
    """An adapter is added layer by layer; angles that go by a text's length go by its own."""
    base = write_llama(tmp_path / "base", rope={"rope_type": "dynamic", "factor": 4.0}, max_position=16)
    items = [one for one in transcripts(20, 30) if len(one.ids) <= refsample.load(base).config.max_position]
    assert len({len(one.ids) for one in items}) > 3
    assert scored(base, items, stream_layers=True) == scored(base, items)
    over = write_lora(tmp_path / "over")
    want = scored(base, items, adapter=over)
    assert scored(base, items, adapter=over, stream_layers=True) == want != scored(base, items)


def test_a_layer_is_read_once_and_its_keys_alone_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, let_go, caches = list[str](), list[str](), list[Any]()
    reading, letting, new = shelf._read, shelf._let_go, Transformer.new_cache

    def keep(into: list[str], then: Any) -> Any:
        return lambda tensors, *rest: (into.extend(one.name for one in tensors), then(tensors, *rest))[1]

    def cache(self: Transformer, *args: Any, **named: Any) -> Any:
        caches.append(new(self, *args, **named))
        return caches[-1]

    monkeypatch.setattr(shelf, "_read", keep(read, reading))
    monkeypatch.setattr(shelf, "_let_go", keep(let_go, letting))
    monkeypatch.setattr(Transformer, "new_cache", cache)
    assert len(scored(folder, transcripts(), stream_layers=True)) == 12
    assert read == let_go and len(read) == len(set(read)) == 4 * 9
    assert {one.keys.shape[0] for one in caches} == {1}


CHILD = """
import json, os, signal, sys
import refsample
from refsample.generation.scoring import Transcript, score_many
folder, state, kill, items = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
def watch(passed):
    print("layer", passed.layer, file=sys.stderr)
    if passed.layer == kill:
        os.kill(os.getpid(), signal.SIGKILL)
model = refsample.load(folder, stream_layers=True)
found = score_many(model, [Transcript(tuple(ids), start) for ids, start in items], resume=state, watch=watch)
print([[(t.raw_logprob.hex(), t.rank, t.entropy.hex()) for t in one.tokens] for one in found])
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_killed_and_resumed(folder: Path, tmp_path: Path) -> None:
    """After two layers, then among the logits; the third run has nothing left but those."""
    items, state = transcripts(), tmp_path / "state"
    found = score_many(refsample.load(folder), items)
    want = [[(t.raw_logprob.hex(), t.rank, t.entropy.hex()) for t in one.tokens] for one in found]

    def child(kill: int) -> subprocess.CompletedProcess[str]:
        sent = json.dumps([(one.ids, one.start) for one in items])
        path = os.pathsep.join(str(place) for place in (*PACKAGES, os.environ.get("PYTHONPATH", "")))
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), str(state), str(kill), sent],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=250, check=False,
        )  # fmt: skip

    first = child(2)
    assert first.returncode == -signal.SIGKILL and (state / "wave-00000.state").exists()
    second = child(4)
    assert second.returncode == -signal.SIGKILL and second.stderr.split() != first.stderr.split()
    assert "layer 0" not in second.stderr and first.stderr.split()[1] == "0"
    third = child(-1)
    assert third.returncode == 0 and set(third.stderr.split()) == {"layer", "4"}
    assert third.stdout.strip() == str(want)
    assert not state.exists()


def stopped(folder: Path, state: Path, layer: int = 2, items: Sequence[Transcript] | None = None, **how: Any) -> None:
    """A run that a person stops with Ctrl-C."""

    def stop(passed: Passed) -> None:
        if passed.layer == layer:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(folder, items or transcripts(), stream_layers=True, resume=state, watch=stop, **how)


def test_stopped_and_resumed_with_other_parameters(folder: Path, tmp_path: Path) -> None:
    state, items = tmp_path / "state", transcripts()
    stopped(folder, state)
    (state / "notes.txt").write_text("mine", encoding="utf-8")
    (state / "wave-00000.part").write_bytes(b"left by a kill")
    model, seen = refsample.load(folder, stream_layers=True), list[Passed]()
    found = list(score_many(model, items, {"top_p": 0.5}, resume=state, watch=seen.append))
    assert found == list(score_many(refsample.load(folder), items, {"top_p": 0.5}))
    assert seen[0].layer == 1 or seen[0].layer == 2
    assert [path.name for path in state.iterdir()] == ["notes.txt"]


def test_waves_that_are_done_are_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ROOM", 30_000)
    state, items, seen = tmp_path / "state", transcripts(), list[Passed]()

    def stop(passed: Passed) -> None:
        if passed.wave == 1 and passed.layer == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(folder, items, stream_layers=True, resume=state, watch=stop)
    assert len(list(state.iterdir())) == 2
    assert scored(folder, items, stream_layers=True, resume=state, watch=seen.append) == scored(folder, items)
    assert {one.layer for one in seen if one.wave == 0} == {4} and seen[-1].work == seen[-1].to_do


def test_a_state_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    stopped(folder, state)
    before = (state / "wave-00000.state").read_bytes()
    other = write_llama(tmp_path / "other", layers=4, shards=3, seed=9)
    touched = Path(shutil.copytree(folder, tmp_path / "touched"))
    os.utime(touched / "model-00001-of-00003.safetensors", (1, 1))
    model = refsample.load(folder, stream_layers=True)
    moved = [Transcript(one.ids, 1) for one in transcripts()]
    for asked, items, said in (
        (model, transcripts(seed=1), r"another run \(transcripts 12 with \d+ tokens \(.*there, 12 with"),
        (model, transcripts(11), r"transcripts 12 with \d+ tokens \(.* there, 11 with"),
        (model, moved, "transcripts"),
        (model, [], "transcripts 12 with .* there, 0 with 0 tokens"),
        (refsample.load(folder, stream_layers=True, precision="bf16"), transcripts(), "precision float32 there, bf16"),
        (refsample.load(other, stream_layers=True), transcripts(), r"model \w{16} there, \w{16} here"),
        (refsample.load(touched, stream_layers=True), transcripts(), "weights of "),
    ):
        with pytest.raises(ParameterError, match=said) as raised:
            score_many(asked, items, resume=state)
        assert "finish that run, name another folder, or delete this one" in str(raised.value)
    assert (state / "wave-00000.state").read_bytes() == before


def test_damage(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    stopped(folder, state)
    path = state / "wave-00000.state"
    whole = path.read_bytes()
    for held, said in (
        (whole[:-1], "is damaged .*bytes instead of"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is damaged: delete it"),
        (b"", "is no state of refsample"),
        (b"{}\n", "is no state of refsample"),
        (whole.replace(b'"format": 1', b'"format": 9', 1), "has format 9"),
    ):
        path.write_bytes(held)
        with pytest.raises(ParameterError, match=said):
            scored(folder, transcripts(), stream_layers=True, resume=state)
        assert path.read_bytes() == held


def test_a_disk_that_is_full(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    stopped(folder, state)
    before = (state / "wave-00000.state").read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = r"layer \d of 4 cannot be written: No space left on device; what was kept before is still there"
        with pytest.raises(ParameterError, match=said):
            scored(folder, transcripts(), stream_layers=True, resume=state)
    assert [path.name for path in state.iterdir()] == ["wave-00000.state"]
    assert (state / "wave-00000.state").read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(resume, "_free", lambda folder: 10)
        with pytest.raises(ParameterError, match="needs .* MB for its state, .* MB are free"):
            score_many(refsample.load(folder, stream_layers=True), transcripts(), resume=tmp_path / "new")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ParameterError, match="resume=.*cannot be used"):
        score_many(refsample.load(folder, stream_layers=True), transcripts(), resume=tmp_path / "file")
    assert scored(folder, transcripts(), stream_layers=True, resume=state) == scored(folder, transcripts())


def test_the_door(folder: Path, tmp_path: Path) -> None:
    model = refsample.load(folder, stream_layers=True)
    assert list(score_many(model, [])) == list(score_many(model, [], resume=tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()
    with pytest.raises(ParameterError, match=r"items\[0\]\.prompt=\(\): must hold at least one token"):
        score_many(model, [(None, [5])])
    with pytest.raises(ContextLengthError, match=r"items\[1\]\.completion"):
        score_many(model, [("a", "b"), ([5] * 256, [6])])
    for named in ({"resume": tmp_path}, {"watch": print}):
        with pytest.raises(ParameterError, match="needs a model that was loaded with stream_layers"):
            score_many(refsample.load(folder), [], **named)  # type: ignore[arg-type]
    one = [Transcript((5, 6), 1)]
    assert scored(folder, one, stream_layers=True) == scored(folder, one)
    whole = model.generate([5, 6, 7], max_tokens=5, seed=1)
    assert whole == refsample.load(folder).generate([5, 6, 7], max_tokens=5, seed=1)


def test_files_that_are_not_as_they_should_be(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    shard = broken / "model-00002-of-00003.safetensors"
    model = refsample.load(broken, stream_layers=True)
    whole = shard.read_bytes()
    shard.unlink()
    with pytest.raises(MissingFileError, match="model-00002-of-00003.safetensors"):
        refsample.load(broken, stream_layers=True)
    with pytest.raises(CorruptFileError, match=r"00002-of-00003.safetensors cannot be read any more: No such file"):
        list(score_many(model, transcripts()))
    shard.write_bytes(whole[:100])
    with pytest.raises(CorruptFileError, match="has become shorter"):
        list(score_many(model, transcripts()))
    length = int.from_bytes(whole[:8], "little")
    shard.write_bytes((length + 1).to_bytes(8, "little") + whole[8 : 8 + length] + b" " + whole[8 + length :])
    with pytest.raises(UnsupportedModelError, match="begins at an odd byte.*cannot be streamed: save the file again"):
        refsample.load(broken, stream_layers=True)
