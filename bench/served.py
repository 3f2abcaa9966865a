"""`refsample serve` as a process of its own on a free loopback port, for benches to ask."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, int]]:
    """URL and process id of a server with these arguments. RuntimeError for one that ends before it is ready."""
    command = [sys.executable, "-m", "refsample", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            if address:
                # a full pipe would stop the server, so somebody has to read whatever else it says
                threading.Thread(target=deque, args=(process.stdout, 0), daemon=True).start()
                yield address.group(), process.pid
                return
        raise RuntimeError(f"refsample serve {' '.join(arguments)} ended before it named its URL")
    finally:
        process.terminate()
        process.wait(timeout=20)
