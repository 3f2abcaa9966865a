"""Imports point down the floors only; heavy packages live in one place each."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.house.sources import ROOT, Import, dotted, imports, modules

# Floor of every room; `refsample` itself (the lazy front door) and `refsample.__main__` stand above all of them.
FLOORS: Mapping[str, int] = {
    "refsample_kernels": 1,
    "refsample.errors": 2,
    "refsample.render": 2,
    "refsample.mask": 2,
    "refsample.checks": 3,
    "refsample.files": 3,
    "refsample.spec": 3,
    "refsample.model": 4,
    "refsample.tiny": 4,
    "refsample.text": 4,
    "refsample.sampling": 4,
    "refsample.generation": 5,
    "refsample.api": 6,
    "refsample.conformance": 7,
    "refsample.teach": 7,
    "refsample.cli": 8,
    "refsample.__main__": 9,
    "refsample": 9,
}

# Third-party package -> the modules that may import it, and nobody else.
HOMES: Mapping[str, tuple[str, ...]] = {
    "numba": ("refsample_kernels.jit", "refsample_kernels.lanes_llvm", "refsample_kernels.team_llvm"),
    "llvmlite": ("refsample_kernels.lanes_llvm",),
    "torch": ("refsample.tiny.train", "refsample.tiny.pirate"),
    "transformers": (),
    "tokenizers": ("refsample.text.backend", "refsample.text.tokenizer", "refsample.tiny"),
    "jinja2": ("refsample.text.sandbox",),
    "starlette": ("refsample.api",),
    "uvicorn": ("refsample.api",),
    "httpx2": ("refsample.conformance.transport",),
    "click": ("refsample.cli",),
    "matplotlib": (),
    "huggingface_hub": ("refsample.generation.hub",),
}

# Scripts about the model as a whole: they use the public names, as any user would.
SCRIPTS = ("refsample.tiny.evaluate",)

EVERY_IMPORT = [each for path in modules() for each in imports(path)]


def room(module: str) -> str | None:
    """`refsample.model.cache` -> `refsample.model`; None for somebody else's module."""
    parts = module.split(".")
    if parts[0] == "refsample_kernels":
        return "refsample_kernels"
    if parts[0] != "refsample":
        return None
    return ".".join(parts[:2])


def wrong(each: Import) -> bool:
    """Whether an import goes up or sideways."""
    here, there = room(each.importer), room(each.target)
    if here is None or there is None or here == there:
        return False
    if each.importer in SCRIPTS and there == "refsample":
        return False
    if here == "refsample.cli" and there == "refsample":
        return False
    return FLOORS[there] >= FLOORS[here]


def test_every_room_has_a_floor() -> None:
    unknown = {room(dotted(path)) for path in modules()} - set(FLOORS)
    assert not unknown, f"rooms without a floor in this test: {sorted(map(str, unknown))}"


def test_imports_point_down() -> None:
    broken = [str(each) for each in EVERY_IMPORT if wrong(each)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("package", sorted(HOMES))
def test_heavy_packages_stay_home(package: str) -> None:
    homes = HOMES[package]
    broken = [
        str(each)
        for each in EVERY_IMPORT
        if each.target.split(".")[0] == package
        and not any(at(each, home) for home in homes)
    ]
    assert not broken, "\n".join(broken)
    idle = [h for h in homes if not any(each.target.split(".")[0] == package and at(each, h) for each in EVERY_IMPORT)]
    assert not idle, f"homes that do not import {package}: {idle}"


def at(each: Import, home: str) -> bool:
    """Whether an import stands in a module or in a room."""
    return each.importer == home or each.importer.startswith(home + ".")


def test_imports_by_name_are_seen() -> None:
    code = 'import_module("numba.cc"), importlib.import_module("torch"), __import__("numpy"), import_module(name)'
    path = ROOT / "refsample" / "errors.py"
    assert [each.target for each in imports(path, code)] == ["numba.cc", "torch", "numpy"]


def test_the_rule_bites() -> None:
    """The checker itself: up, sideways and down."""
    path = ROOT / "refsample" / "errors.py"
    assert wrong(Import("refsample.model.cache", "refsample.sampling.rng", path, 1))
    assert wrong(Import("refsample.spec.load", "refsample.api.server", path, 1))
    assert wrong(Import("refsample.api.server", "refsample", path, 1))
    assert wrong(Import("refsample_kernels.linear", "refsample.errors", path, 1))
    assert not wrong(Import("refsample.api.server", "refsample.errors", path, 1))
    assert not wrong(Import("refsample.model.cache", "refsample.model.config", path, 1))
    assert not wrong(Import("refsample.model.cache", "numpy", path, 1))
