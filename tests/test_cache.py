"""The disk cache: what is kept comes back whole or not at all, whatever happens to the files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taut.compiler.aval import Aval, parse_aval, symbol
from taut.compiler.codegen.spec import ProgramSpec
from taut.compiler.dtypes import boolean, f32
from taut.runtime.cache import MAGIC, Cache, default_folder, open_cache
from taut.runtime.options import Options
from taut.runtime.payload import pack, unpack

KEY, OTHER = "ab" * 32, "cd" * 32
B = symbol("B")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "objects")


def test_what_is_put_comes_back(cache: Cache) -> None:
    assert cache.get(KEY) is None
    assert cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"
    assert cache.put(KEY, b"newer")
    assert cache.get(KEY) == b"newer"
    assert cache.get(OTHER) is None


def test_the_folder_and_its_files_are_private(cache: Cache) -> None:
    cache.put(KEY, b"code")
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    (entry,) = cache.entries()
    assert entry.path.stat().st_mode & 0o777 == 0o600


def test_a_key_is_a_hash_and_never_a_path(cache: Cache) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        cache.get("../../etc/passwd")


def test_any_flipped_byte_and_any_cut_is_a_miss(cache: Cache) -> None:
    cache.put(KEY, b"the code")
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    for place in range(len(whole)):
        entry.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.get(KEY) is None, place
        entry.path.write_bytes(whole[:place])
        assert cache.get(KEY) is None, place
    entry.path.write_bytes(whole + b"x")
    assert cache.get(KEY) is None
    assert cache.put(KEY, b"mended")
    assert cache.get(KEY) == b"mended"


def test_a_file_made_for_another_key_or_version_is_a_miss(cache: Cache) -> None:
    cache.put(OTHER, b"code")
    (entry,) = cache.entries()
    place = entry.path.with_name(entry.path.name.replace(OTHER, KEY))
    place.write_bytes(entry.path.read_bytes())
    assert cache.get(KEY) is None
    entry.path.write_bytes(MAGIC[:-1] + b"\x63" + entry.path.read_bytes()[len(MAGIC) :])
    assert cache.get(OTHER) is None


def test_without_a_place_to_write_there_is_no_cache_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = Cache(tmp_path / "file" / "objects")
    assert not blocked.put(KEY, b"code")
    assert blocked.get(KEY) is None
    assert blocked.entries() == []
    assert blocked.clear() == 0
    assert not blocked.info().usable


@contextmanager
def without_root() -> Iterator[None]:
    """Gives up root's rights, who may write to read-only folders."""
    is_root = os.getuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_read_only_folder_is_read() -> None:
    with tempfile.TemporaryDirectory() as top:
        cache = Cache(Path(top) / "objects")
        cache.put(KEY, b"code")
        (entry,) = cache.entries()
        os.utime(entry.path, (1e9, 1e9))  # a use that cannot be noted
        for path, mode in ((Path(top), 0o755), (cache.folder, 0o555), (entry.path, 0o444)):
            path.chmod(mode)
        with without_root():
            assert cache.get(KEY) == b"code"
            assert not cache.put(OTHER, b"code")
            assert cache.clear() == 0
        cache.folder.chmod(0o700)


def test_an_unwritable_disk_is_no_error(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, b"code")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert not cache.put(OTHER, b"code")
    assert cache.get(KEY) == b"code"


FULL_DISK = """
import resource, sys
from pathlib import Path
from taut.runtime.cache import Cache
cache = Cache(Path(sys.argv[1]))
assert cache.put("ab" * 32, bytes(5_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
assert not cache.put("cd" * 32, bytes(50_000))
assert not cache.put("ab" * 32, bytes(50_000))
assert cache.get("ab" * 32) == bytes(5_000)
assert [path.name for path in cache.folder.iterdir()] == ["ab" * 32 + ".tautobj"]
"""


def test_a_disk_that_is_full_halfway_leaves_what_was_there(cache: Cache) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(cache.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_where_others_may_write_is_left_alone(cache: Cache, mode: int) -> None:
    cache.put(KEY, b"code")
    cache.folder.chmod(mode)
    assert cache.get(KEY) is None
    assert not cache.put(OTHER, b"code")
    assert not cache.info().usable
    cache.folder.chmod(0o700)
    assert cache.get(KEY) == b"code"


def test_the_least_recently_used_go_first(cache: Cache) -> None:
    cache.limit = 3 * 1000
    keys = [f"{n:064x}" for n in range(4)]
    for age, key in zip((400, 300, 200), keys, strict=False):
        cache.put(key, bytes(800))
        past = time.time() - age
        os.utime(cache.entries()[0].path, (past, past))
    cache.put(keys[3], bytes(800))
    assert [entry.key for entry in cache.entries()] == [keys[3], keys[2], keys[1]]


def test_what_is_larger_than_the_limit_is_not_kept(cache: Cache) -> None:
    cache.limit = 1000
    assert cache.put(KEY, bytes(500))
    assert not cache.put(OTHER, bytes(1000))
    assert [entry.key for entry in cache.entries()] == [KEY]
    cache.limit = 0
    assert not cache.put(OTHER, b"")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 512 << 20),
        ("0", 0),
        ("4096", 4096),
        ("64k", 1 << 16),
        ("1 GiB", 1 << 30),
        ("3M", 3 << 20),
    ],
)
def test_the_limit_is_the_environments(text: str, size: int, tmp_path: Path) -> None:
    options = Options.from_environment({"TAUT_CACHE_SIZE": text, "TAUT_CACHE_DIR": str(tmp_path)})
    cache = open_cache(options)
    assert (cache.limit, cache.folder) == (size, tmp_path)


def test_a_use_is_noted_when_the_last_one_was_long_ago(cache: Cache) -> None:
    cache.put(KEY, b"code")
    (entry,) = cache.entries()
    os.utime(entry.path, (1e9, 1e9))
    cache.get(KEY)
    assert cache.entries()[0].used > time.time() - 60


def test_what_a_killed_writer_left_is_no_entry_and_goes_in_time(cache: Cache) -> None:
    cache.put(KEY, b"code")
    left = cache.folder / f"{OTHER}.tautobj.x1y2.tmp"
    left.write_bytes(b"half")
    assert cache.get(OTHER) is None
    assert [entry.key for entry in cache.entries()] == [KEY]
    cache.put(KEY, b"code")
    assert left.exists()  # perhaps its writer is still at work
    os.utime(left, (1e9, 1e9))
    cache.put(KEY, b"code")
    assert not left.exists()


def test_info_and_clear(cache: Cache) -> None:
    (cache.folder).mkdir()
    (cache.folder / "notes.txt").write_text("not ours")
    cache.put(KEY, b"code")
    cache.put(OTHER, b"more code")
    info = cache.info()
    assert (info.folder, info.entries, info.usable) == (cache.folder, 2, True)
    assert info.size == sum(entry.size for entry in cache.entries())
    assert cache.clear() == 2
    assert cache.info().entries == 0
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]


def test_the_place_is_the_platform_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder().name == "taut"


# --- the payload ----------------------------------------------------------------------------------


def spec() -> ProgramSpec:
    return ProgramSpec(
        name="step",
        backend="llvm",
        source="",
        entry="step",
        externs=("cos", "taut_solve_f32"),
        inputs=(Aval(f32, (B, 8)), Aval(f32, (), True), Aval(boolean, ((B + 1) // 2,))),
        outputs=(Aval(f32, (B, 8)), Aval(f32, (B * 8 + 1,))),
        donations=(0, None),
        slots=(128, B * 64),
        symbols=("B",),
        checks=('said "no"', "zweimal – nein"),
    )


def test_a_payload_holds_the_program() -> None:
    assert unpack(pack(spec(), [b"\x7fELF\0", b"ELF"])) == (spec(), [b"\x7fELF\0", b"ELF"])


@pytest.mark.parametrize("payload", [b"", b"\xff\xff\xff\xff{", b"\2\0\0\0{}", b"\2\0\0\0[]code"])
def test_bytes_of_another_form_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a program|Expecting"):
        unpack(payload)


def test_types_are_read_as_they_print() -> None:
    for aval in (*spec().inputs, *spec().outputs):
        assert parse_aval(str(aval)) == aval


# --- processes ------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from taut.runtime.cache import Cache
cache = Cache(Path(sys.argv[1]))
for turn in range(200):
    cache.put("ab" * 32, bytes([turn]) * 50_000)
    found = cache.get("ab" * 32)
    assert found is None or found == found[:1] * 50_000, "torn"
"""


def test_writers_in_several_processes_never_tear_an_entry(cache: Cache) -> None:
    command = [sys.executable, "-c", WRITER, str(cache.folder)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = cache.get(KEY)
    assert found is not None
    assert len(found) == 50_000
    assert not list(cache.folder.glob("*.tmp"))


CROWD = """
import random, sys
from pathlib import Path
from taut.runtime.cache import Cache
seed = int(sys.argv[2])
rng = random.Random(seed)
cache = Cache(Path(sys.argv[1]), limit=60_000)
for turn in range(300):
    number = rng.randrange(8)
    key = f"{number:064x}"
    if rng.random() < 0.5:
        cache.put(key, bytes([number]) * rng.randrange(1, 20_000), b"about")
    elif rng.random() < 0.1:
        entries = cache.entries()
        if entries:
            path = rng.choice(entries).path
            try:
                data = path.read_bytes()
                path.write_bytes(data[: rng.randrange(len(data) + 1)])
            except OSError:
                pass
    found = cache.get(key)
    assert found is None or set(found) == {number}, "another's or torn"
"""


def test_many_processes_write_read_evict_and_damage_and_none_sees_it(cache: Cache) -> None:
    command = [sys.executable, "-c", CROWD, str(cache.folder)]
    crowd = [subprocess.Popen([*command, str(seed)]) for seed in range(4)]
    assert [process.wait() for process in crowd] == [0] * 4
    cache.limit = 60_000
    cache.put(KEY, b"last")
    assert cache.info().size <= cache.limit
    assert not list(cache.folder.glob("*.tmp"))


def test_killed_writers_leave_whole_entries_and_files_that_go_in_time(cache: Cache) -> None:
    command = [sys.executable, "-c", WRITER, str(cache.folder)]
    for delay in (0.0, 0.01, 0.03):
        with subprocess.Popen(command) as writer:
            while cache.get(KEY) is None and writer.poll() is None:
                time.sleep(0.01)
            time.sleep(delay)
            writer.kill()
        found = cache.get(KEY)
        assert found is not None
        assert len(found) == 50_000
    unfinished = cache.folder / f"{OTHER}.tautobj.killed.tmp"
    unfinished.write_bytes(b"half")
    for path in cache.folder.glob("*.tmp"):
        os.utime(path, (1e9, 1e9))
    cache.put(OTHER, b"next")
    assert not list(cache.folder.glob("*.tmp"))


STEP = """
import json, sys, time
start = time.perf_counter()
import taut
import numpy as np
from taut.compiler.aval import Aval, parse_aval, symbol
from taut.compiler.codegen.spec import ProgramSpec
from taut.compiler.dtypes import f32
from taut.runtime.compile import compile_keyed
from taut.runtime.host import host_target
from taut.runtime.keys import program_key
from taut.runtime.options import default_options

TEXT = '''
define i32 @step(ptr %table) {
  %x.at = getelementptr i64, ptr %table, i64 1
  %y.at = getelementptr i64, ptr %table, i64 2
  %x = load ptr, ptr %x.at
  %y = load ptr, ptr %y.at
  %value = load float, ptr %x
  %sum = fadd float %value, %value
  store float %sum, ptr %y
  ret i32 0
}'''
made = []

def make():
    made.append(1)
    x = Aval(f32, (1,))
    return ProgramSpec("step", "llvm", TEXT, "step", (), (x,), (x,), (None,), (), (), ())

options = default_options()
ready = time.perf_counter()
program = compile_keyed(program_key("some graph", options, host_target()), make, options)
linked = time.perf_counter()
result = float(program([np.array([21], np.float32)])[0][0])
heavy = [m for m in ("numba", "scipy", "taut.compiler.codegen.llvm") if m in sys.modules]
print(json.dumps({
    "result": result, "made": len(made), "heavy": heavy,
    "import_ms": 1e3 * (ready - start), "link_ms": 1e3 * (linked - ready),
}))
"""


def run_step(folder: Path) -> dict[str, object]:
    environment = os.environ | {"TAUT_CACHE_DIR": str(folder), "TAUT_BACKEND": "llvm"}
    done = subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_second_process_links_what_the_first_compiled(cache: Cache) -> None:
    cold, warm = run_step(cache.folder), run_step(cache.folder)
    assert (cold["result"], cold["made"]) == (42.0, 1)
    assert (warm["result"], warm["made"]) == (42.0, 0)
    assert warm["heavy"] == []


def test_a_damaged_entry_is_compiled_again_and_replaced(cache: Cache) -> None:
    run_step(cache.folder)
    (entry,) = cache.entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-9])
    again, warm = run_step(cache.folder), run_step(cache.folder)
    assert (again["result"], again["made"]) == (42.0, 1)
    assert (warm["result"], warm["made"]) == (42.0, 0)
