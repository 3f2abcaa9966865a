"""Serves a GGUF file with llama.cpp's own server (the `xllamacpp` wheel) on loopback; knows nothing of refsample.

In a process of its own: the library logs to the file descriptors and stops its threads only when the process ends.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0


@contextmanager
def serve_gguf(path: Path, *, ctx: int = 1024, slots: int = 4, alias: str = "tiny") -> Iterator[str]:
    """The base URL (without /v1) of a server on `path`, stopped on leaving; `ctx` tokens for each of `slots` slots.

    RuntimeError with the server's log when it does not start.
    """
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, __file__, str(path), str(ctx), str(slots), alias]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not serve {path}:\n{log.read()[-4000:]}")
            with urllib.request.urlopen(f"{url}/health", timeout=START_SECONDS):
                pass
            yield url
        finally:
            process.stdin.close()  # the end of its input is the sign to stop
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _child(path: str, ctx: int, slots: int, alias: str) -> None:
    """Serve until stdin ends. Flash attention and an F16 cache would each move logprobs by 1e-3, so both are off."""
    import os

    url_pipe = os.dup(1)
    os.dup2(2, 1)  # whatever the library prints is log
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {alias}
    params.n_ctx = ctx * slots
    params.n_parallel = slots
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 2 * slots
    params.cache_ram_mib = 0
    params.fit_params = False
    params.warmup = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    os.write(url_pipe, f"{server.listening_address}\n".encode())
    os.close(url_pipe)
    sys.stdin.read()
    # No destructors: the library's threads may still hold a request that nobody waits for.
    os._exit(0)


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
