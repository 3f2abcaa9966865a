"""What attention may read of a cache beyond its tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refsample.model.cache import Cache


def test_room_beyond_the_tokens_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention reads sixteen keys at once: what stale memory holds there may overflow, and warns with the JIT off."""
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 1e38, dtype))
    cache = Cache((2, 1, 4), 100, np.float32, "float32")
    cache.reserve(5)
    cache.length = 5
    for held in (cache, cache.fork()):
        assert held.keys.shape[3] % 16 == 0
        assert not held.keys[..., 5:].any() and not held.values[:, :, 5:].any()


def test_a_fork_forgets_what_was_truncated() -> None:
    cache = Cache((1, 1, 2), 40, np.float32, "float32", 32)
    used: Any = np.arange(32)
    cache.keys[:], cache.values[:], cache.length = used, 7.0, 32
    cache.truncate(3)
    copy = cache.fork()
    assert copy.length == 3 and copy.keys[0, 0, :, :3].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert not copy.keys[..., 3:].any() and not copy.values[:, :, 3:].any()
