"""Settings of every test: seeded properties, no network, no hub. Knows nothing of what is tested."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# Before anything imports a hub client or numba: both read their environment once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("NUMBA_NUM_THREADS", str(min(2, os.cpu_count() or 1)))

from refsample_kernels import jit

# derandomize: the same examples on every machine; deadline None: a first call compiles a kernel.
settings.register_profile(
    "refsample",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("refsample")
# Nor may examples hang on which of our modules other tests of this process have imported: hypothesis draws numbers that
# it finds in their sources. It has no setting for that.
if hasattr(providers, "_get_local_constants"):
    providers._get_local_constants = lambda: providers._local_constants



@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Where tests run in several processes, each has a log of its own: one file would hold what the last one wrote."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and config.option.log_file:
        config.option.log_file += f"-{worker}"


_LOOPBACK = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True, scope="session")
def environment() -> Iterator[None]:
    """Tests see no colour or proxy settings of whoever runs them, and cannot leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in _LOOPBACK:
            raise RuntimeError(f"a test tried to reach {address[0]}: tests stay on this machine")
        connect(self, address)

    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) >= (os.cpu_count() or 1):
        jit.set_threads(1)  # the other workers have the other cores: threads that wait for each other take them away
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
            patch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        patch.setattr(socket.socket, "connect", guarded)
        yield
