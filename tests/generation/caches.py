"""A hub cache as huggingface_hub lays it out, for tests: blobs by hash, snapshots of links, refs. Holds models of
tests, loads nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from refsample.tiny import FOLDER

FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def commit(text: str) -> str:
    """A made-up commit."""
    return hashlib.sha1(text.encode()).hexdigest()


def store(cache: Path, name: str, sha: str, files: dict[str, bytes], *references: str) -> Path:
    """Add one commit of `name`, and make the references point to it; the snapshot's folder."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / sha, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        blob = blobs / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        place = snapshot / path
        place.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (2 + path.count("/"))
        place.symlink_to(f"{up}blobs/{blob.name}")
    for reference in references:
        pointer = repository / "refs" / reference
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(sha)
    return snapshot


def tiny_files(**changed: bytes) -> dict[str, bytes]:
    """The embedded model's files; `generation_config__json=b"{}"` puts another in place of one."""
    files = {name: (FOLDER / name).read_bytes() for name in FILES}
    return files | {name.replace("__", "."): data for name, data in changed.items()}


def split_shards() -> dict[str, bytes]:
    """The embedded model's weights, bit for bit, as two shards and their index."""
    whole = (FOLDER / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    names = sorted(name for name in header if name != "__metadata__")
    files, places = {}, {}
    for number, held in enumerate((names[::2], names[1::2]), 1):
        shard, entries, data = f"model-0000{number}-of-00002.safetensors", {}, b""
        for name in held:
            begin, end = header[name]["data_offsets"]
            entries[name] = {**header[name], "data_offsets": [len(data), len(data) + end - begin]}
            data += whole[start + begin : start + end]
            places[name] = shard
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        files[shard] = len(text).to_bytes(8, "little") + text + data
    return {**files, "model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": places}).encode()}
