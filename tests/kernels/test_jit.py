"""Compilation: the table of kernels, laziness, caches, threads."""

from __future__ import annotations

import ast
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import refsample_kernels
from refsample_kernels import jit, store
from refsample_kernels.linear import linear

FOLDER = Path(refsample_kernels.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds both packages."""
    paths = os.pathsep.join([str(FOLDER.parent), str(FOLDER.parent.parent)])
    env = os.environ | {"PYTHONPATH": paths, "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"} | environment
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=240, check=False
    )


def test_every_kernel_is_in_the_table_beside_a_definition() -> None:
    for module in MODULES:
        loaded = importlib.import_module(f"refsample_kernels.{module}")
        for value in vars(loaded).values():
            if isinstance(value, jit.Kernel):
                assert jit.KERNELS[value.name] == (value, value.definition)
    assert {"linear", "rms_norm", "rotate", "silu", "attention", "attention_bf16"} <= set(jit.KERNELS)
    for name, (kernel, definition) in jit.KERNELS.items():
        assert definition.__doc__, f"the definition of {name} says nothing"
        assert definition.__module__ == kernel.function.__module__, f"{name}: definition and kernel share one file"


def test_no_import_statement_names_numba_and_fastmath_is_nowhere() -> None:
    for module in MODULES:
        text = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
        named = [
            alias.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (*node.names, ast.alias(getattr(node, "module", "") or ""))
        ]
        assert not [name for name in named if name.split(".")[0] == "numba"], module
        assert module == "jit" or "fastmath=" not in text


def test_two_kernels_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two kernels are named linear"):
        jit.kernel(linear.definition)(linear.function)


def test_importing_all_kernels_does_not_import_numba() -> None:
    imports = ";".join(f"import refsample_kernels.{module}" for module in MODULES)
    done = python(f"import sys; {imports}; print('numba' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


RUN = """
import numpy as np, sys
from refsample_kernels.linear import linear
x, w = np.arange(8, dtype=np.float32).reshape(1, 8), np.ones((3, 8), np.float32)
out = np.empty((1, 3), np.float32)
linear(x, w, np.empty(0, np.float32), out)
print(out.tolist(), 'numba' in sys.modules)
"""


def test_disabled_jit_runs_plain_python_without_numba() -> None:
    done = python(RUN, NUMBA_DISABLE_JIT="1")
    assert done.stdout.strip() == "[[28.0, 28.0, 28.0]] False", done.stderr


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_compiled_code_goes_to_the_named_folder_and_numba_keeps_its_own_setting(tmp_path: Path) -> None:
    code = RUN + "import numba; print(repr(numba.config.CACHE_DIR))"
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.splitlines() == ["[[28.0, 28.0, 28.0]] True", repr(str(tmp_path))], done.stderr
    folder = tmp_path / "refsample" / store.source_hash()
    assert list(folder.rglob("*.nbi")), "an index file of numba's cache"


HOMELESS = """
import pathlib
def home():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = home
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_helpers_have_no_machine_code_and_others_functions_do(tmp_path: Path) -> None:
    """A helper is a part of what calls it; numba compiles a user's own functions as ever, before and after."""
    code = """
import numba, numpy as np
from refsample_kernels import jit
from refsample_kernels.linear import linear_few
from refsample_kernels.tiles import whole

@numba.njit
def double(x):
    return 2 * whole_one(x)

@numba.njit
def whole_one(x):
    return x + 1

generator = numba.core.registry.cpu_target.target_context.codegen()
kept = type(generator)._library_class
x, out = np.ones((2, 20), np.float32), np.empty((2, 5), np.float32)
linear_few(x, np.ones((5, 20), np.float32), np.empty(0, np.float32), out)
assert (out == 20).all() and double(3) == 8 and "create_library" not in vars(generator)
for dispatcher in (jit._HELPERS[whole], linear_few.compiled()):
    found, = dispatcher.overloads.values()
    print(type(found.library) is kept, found.library.get_pointer_to_function(found.fndesc.llvm_func_name) > 0)
"""
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.split() == ["False", "False", "True", "True"], done.stderr


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_a_kernel_that_lies_on_disk_is_whole_where_a_helper_calls_it(tmp_path: Path) -> None:
    """It is read while the helper is compiled, which is no whole function itself."""
    (tmp_path / "one.py").write_text(
        "from refsample_kernels.jit import Kernel, helper\n"
        "from refsample_kernels.norm import rms_norm\n"
        "@helper\n"
        "def inner(x, w, out):\n    rms_norm(x, w, 1e-5, out)\n"
        "def outer(x, w, out):\n    inner(x, w, out)\n"
        "kernel = Kernel(outer, outer, None, None, None)\n",
        encoding="utf-8",
    )
    code = f"""
import sys, numpy as np
sys.path.insert(0, {str(tmp_path)!r})
from refsample_kernels.norm import rms_norm
x, w, a, b = np.ones((2, 20), np.float32), np.ones(20, np.float32), np.zeros((2, 20), "f4"), np.zeros((2, 20), "f4")
if "one" in NAMES:
    from one import kernel
    kernel(x, w, a)
rms_norm(x, w, 1e-5, b)
print(float(a[0, 0]), float(b[1, 19]))
"""
    for names, made in (("[]", "0.0"), ("['one']", "0.99999"), ("['one']", "0.99999")):
        done = python(code.replace("NAMES", names), NUMBA_CACHE_DIR=str(tmp_path / "kept"))
        found = done.stdout.split()
        assert done.returncode == 0 and found[0].startswith(made) and found[1].startswith("0.99999"), done.stderr


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_a_user_without_a_home_runs_kernels_too() -> None:
    done = python(HOMELESS + RUN, NUMBA_CACHE_DIR="", XDG_CACHE_HOME="")
    assert done.stdout.strip() == "[[28.0, 28.0, 28.0]] True", done.stderr


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_without_a_writable_cache_kernels_still_run(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    done = python(RUN, NUMBA_CACHE_DIR=str(blocked))
    assert done.stdout.strip() == "[[28.0, 28.0, 28.0]] True", done.stderr


BITS = """
import hashlib, numpy as np
from refsample_kernels.linear import linear
from refsample_kernels.activation import gelu, gelu_tanh, silu, soft_cap
from refsample_kernels.attention import attention
from refsample_kernels.norm import layer_norm, rms_norm
rng, digest, none = np.random.RandomState(0), hashlib.sha256(), np.empty(0, np.float32)
x, w = rng.standard_normal((3, 50)).astype('f4'), rng.standard_normal((21, 50)).astype('f4')
halves = np.arange(2 ** 16, dtype=np.uint16).view(np.int16)
for held in (w, (w.view(np.uint32) >> 16).astype(np.uint16), w.astype(np.float16).view(np.int16)):
    out = np.empty((3, 21), np.float32)
    linear(x, held, none, out)
    digest.update(out.tobytes())
every = np.empty((1, 2 ** 16), np.float32)
linear(np.ones((1, 1), np.float32), halves.reshape(-1, 1), none, every)
digest.update(every[np.isfinite(every)].tobytes())
normed, gated, mixed = np.empty_like(x), np.empty_like(x), np.empty((3, 2, 25), np.float32)
rms_norm(x, w[0], 1e-5, normed)
for bend in (silu, gelu, gelu_tanh):
    bend(x, gated)
    digest.update(gated.tobytes())
soft_cap(x, 2.0, gated)
digest.update(gated.tobytes())
layer_norm(x, w[0], w[1], 1e-5, gated)
keys, values = (rng.standard_normal(shape).astype('f4') for shape in ((1, 25, 80), (1, 80, 25)))
attention(normed.reshape(3, 2, 25), keys, values, 70, 0.2, 0, 0.0, mixed)
digest.update(mixed.tobytes())
attention(normed.reshape(3, 2, 25), keys, values, 70, 0.2, 21, 3.0, mixed)
digest.update(normed.tobytes() + gated.tobytes() + mixed.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="asks for an x86 processor without extensions"
)
def test_a_processor_without_wide_vectors_gives_the_same_bits() -> None:
    """No AVX, no fused multiply-add, no half precision in the instructions: the same numbers all the same."""
    here, plain = python(BITS), python(BITS, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert len(here.stdout.strip()) == 64, here.stderr
    assert plain.stdout == here.stdout, plain.stderr


SHARED = """
import os, threading, numpy as np
from refsample_kernels import jit
from refsample_kernels.linear import linear, linear_few
rng = np.random.default_rng(0)
x, w = rng.standard_normal((128, 64)).astype('f4'), rng.standard_normal((4096, 64)).astype('f4')
def product(kernel, rows):
    out = np.empty((rows, 4096), np.float32)
    kernel(x[:rows], w, np.empty(0, np.float32), out)
    return out.tobytes()
jit.set_threads(1)
want = product(linear, 128), product(linear_few, 8)
jit.set_threads(2)
"""
AT_ONCE = """
wrong = []
def work():
    for _ in range(200):
        if (product(linear, 128), product(linear_few, 8)) != want:
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(wrong), threading.active_count())
"""
FIVE = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.kernels.test_layers import Sizes, wrong
from refsample_kernels.layers_few import define_layers_few, layers_few
from refsample_kernels.layers_many import define_layers_many, layers_many
from refsample_kernels import jit
found = []
for rows in ((1,), (3, 2), (70, 1), (1,) * 20):
    shape = Sizes(columns=192, heads=6, kv_heads=2, width=32, inner=1400, rows=rows, biased=True, kind="bfloat16",
                  activation=1, window=0, cap=0.0, turned=0.5)
    few = sum(rows) <= 12
    found += wrong(3, shape, *((layers_few, define_layers_few) if few else (layers_many, define_layers_many)))
print(jit.threads(), found)
"""
FORKED = """
product(linear, 128)
child = os.fork()
if child == 0:
    os._exit(0 if (product(linear, 128), product(linear_few, 8)) == want else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="no threads with the JIT off")
def test_python_threads_may_call_kernels_at_once() -> None:
    """Four callers and one helping thread: each call is done by whoever comes, and its bits are those of one thread."""
    done = python(SHARED + AT_ONCE)
    assert done.stdout.strip() == "0 2", done.stderr


@pytest.mark.skipif(jit.jit_disabled(), reason="no threads with the JIT off")
def test_five_threads_through_all_layers() -> None:
    done = python(FIVE.replace("sys.argv[1]", repr(str(FOLDER.parent.parent))), NUMBA_NUM_THREADS="5")
    assert done.stdout.strip() == "5 []", done.stderr


@pytest.mark.skipif(jit.jit_disabled() or not hasattr(os, "fork"), reason="no threads with the JIT off")
def test_a_forked_child_starts_its_own_threads() -> None:
    done = python(SHARED + FORKED)
    assert done.stdout.strip() == "0", done.stderr


THREADS = """
import numpy as np
from refsample_kernels import jit
from refsample_kernels.attention import attention
from refsample_kernels.linear import linear
rng, results = np.random.RandomState(1), []
x, w, none = rng.standard_normal((90, 70)).astype('f4'), rng.standard_normal((130, 70)).astype('f4'), np.empty(0, 'f4')
q, keys, values = (rng.standard_normal(s).astype('f4') for s in ((128, 4, 16), (2, 16, 128), (2, 128, 16)))
for count in (1, 2):
    jit.set_threads(count)
    out, mixed = np.empty((90, 130), np.float32), np.empty_like(q)
    linear(x, w, none, out)
    attention(q, keys, values, 0, 1.0, 0, 0.0, mixed)
    results.append(out.tobytes() + mixed.tobytes())
print(jit.threads(), results[0] == results[1])
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="no threads with the JIT off")
def test_thread_counts_give_the_same_bits() -> None:
    """In a process of its own, which has two threads whatever this one was started with."""
    done = python(THREADS)
    assert done.stdout.strip() == "2 True", done.stderr


ODD = """
import numpy as np
from refsample_kernels.linear import linear_few
x, w, none = np.arange(64, dtype='f4').reshape(8, 8), np.ones((8, 8), 'f4'), np.empty(0, 'f4')
one, two = np.empty((8, 8), 'f4'), np.empty((8, 8), 'f4')
linear_few(x, w, none, one)
linear_few(out=two, bias=none, weight=w, x=x)
print((one == two).all())
for wrong in (w[:, ::-1], w[::2, :4]):
    try:
        linear_few(x[:, :wrong.shape[1]].copy(), wrong, none, one[:, :len(wrong)].copy())
    except Exception as error:
        print('not one piece' in str(error))
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="NumPy itself takes such arrays")
def test_names_in_any_order_and_arrays_that_are_not_one_piece() -> None:
    done = python(ODD)
    assert done.stdout.split() == ["True"] * 3, done.stderr


def test_plain_python_keeps_to_one_thread() -> None:
    """Whatever is asked for: its counters are not atomic."""
    done = python("from refsample_kernels import jit; jit.set_threads(2); print(jit.threads())", NUMBA_DISABLE_JIT="1")
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_wrong_thread_counts_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"threads={count}: must be in 1.."):
        jit.set_threads(count)


def test_the_cache_folder_follows_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_folder() == tmp_path / "refsample" / store.source_hash()
    first = store.source_hash()
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: real(self) + (b"#" if self.name == "linear.py" else b""))
    assert store.source_hash() != first


BENT = """
import numpy as np
from refsample_kernels.activation import silu
x, out = np.zeros((1, 1), np.float32), np.empty((1, 1), np.float32)
silu(x, out)
print(out.tolist())
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_damaged_machine_code_is_made_anew(tmp_path: Path) -> None:
    """Emptied, cut, with a wrong bit, full of zeros: as if it were not there, and put right by the run."""
    names = {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = python(BENT, **names)
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert len(files) == 2, first.stderr
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for broken in (b"", whole[:middle], flipped, bytes(len(whole))):
            path.write_bytes(broken)
            done = python(BENT, **names)
            assert (done.stdout, done.returncode) == (first.stdout, 0), done.stderr
            assert path.read_bytes() not in (broken, b"")


FULL = """
import builtins
real = builtins.open
def opening(name, mode="r", *rest, **more):
    if "w" in mode and ".tmp." in str(name):
        raise OSError(28, "No space left on device")
    return real(name, mode, *rest, **more)
builtins.open = opening
"""


@pytest.mark.skipif(jit.jit_disabled(), reason="nothing is compiled with the JIT off")
def test_a_full_disk_keeps_nothing_and_stops_nobody(tmp_path: Path) -> None:
    done = python(FULL + BENT, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.strip() == "[[0.0]]", done.stderr
    assert not list(tmp_path.rglob("*.nbc"))


HELD = """
import os, threading, time
from refsample_kernels import jit
held = threading.Event()
def hold():
    with jit.LOCK:
        held.set()
        time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
"""
WAITED = """
if child == 0:
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(jit.jit_disabled() or not hasattr(os, "fork"), reason="nothing is compiled with the JIT off")
def test_a_child_forked_while_kernels_are_made_does_not_wait_for_its_parent() -> None:
    inside = "\n    ".join(["if child == 0:", *BENT.strip().splitlines(), "import sys; sys.stdout.flush()"])
    done = python(HELD + inside + WAITED)
    assert (done.stdout.strip(), done.returncode) == ("[[0.0]]", 0), done.stderr


@pytest.mark.parametrize("given", ["0", "-1", "abc", "1.5"])
def test_wrong_numbers_of_threads_in_the_environment(given: str) -> None:
    done = python("from refsample_kernels import jit; print(jit.threads())", NUMBA_NUM_THREADS=given)
    assert f"NUMBA_NUM_THREADS={given}: must be a whole number from 1 on" in done.stderr or jit.jit_disabled()
