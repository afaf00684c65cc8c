"""Programs in the cache: never a wrong one, misses explained, entries checked and carried."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from taut.compiler import parse_graph
from taut.compiler.errors import WhyNot
from taut.frontend.cli import cli
from taut.runtime import host, keys, options
from taut.runtime.cache import MAGIC, Cache, Content, open_cache, read_content, whole_entry
from taut.runtime.cache_tools import explain, key_in, pack_entries, part_changes, read_entry
from taut.runtime.compile import compile_graph, key_of
from taut.runtime.keys import Key
from taut.runtime.options import Options

STEP = """\
taut-ir 1
func @step(%x: f32[4], %y: f32[4]) -> (f32[4]) {
  %0: f32[4] = mul %x, %y
  %1: f32[4] = sub %0, %y
  return %1
}
"""
X, Y = np.arange(4, dtype=np.float32), np.full(4, 3, np.float32)
HEAD = len(MAGIC)
REGIONS: dict[str, Callable[[bytes], range]] = {
    "magic": lambda data: range(HEAD),
    "checksum": lambda data: range(HEAD, HEAD + 32),
    "key": lambda data: range(HEAD + 32, HEAD + 96),
    "length": lambda data: range(HEAD + 96, HEAD + 100),
    "about": lambda data: range(HEAD + 100, HEAD + 100 + _about(data), 7),
    "payload": lambda data: range(HEAD + 100 + _about(data), len(data), 31),
}


def _about(data: bytes) -> int:
    return int.from_bytes(data[HEAD + 96 : HEAD + 100], "little")


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Options with a cache of the test's own, which the commands use, too."""
    monkeypatch.chdir(tmp_path)
    made = Options(cache_dir=tmp_path / "kept")
    monkeypatch.setattr(options, "default_options", lambda: made)
    (tmp_path / "step.ir").write_text(STEP)
    return made


def fill(chosen: Options, *texts: str) -> Cache:
    """The cache with the programs of these texts."""
    for text in texts or (STEP,):
        compile_graph(parse_graph(text), chosen)
    return open_cache(chosen)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments])


def content_of(cache: Cache) -> Content:
    (entry,) = cache.entries()
    content = read_entry(entry)
    assert isinstance(content, Content)
    return content


# --- never a wrong program ------------------------------------------------------------------------


@pytest.mark.parametrize("region", REGIONS)
def test_a_flipped_byte_anywhere_is_a_miss(chosen: Options, region: str) -> None:
    cache = fill(chosen)
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    places = REGIONS[region](whole)
    assert len(places) >= 4
    for place in places:
        for bit in (1, 0x80):
            data = bytearray(whole)
            data[place] ^= bit
            entry.path.write_bytes(data)
            assert cache.get(entry.key) is None, place
            assert isinstance(read_entry(entry), WhyNot), place


def test_programs_are_right_whatever_happens_to_their_files(chosen: Options) -> None:
    rng = np.random.default_rng(0)
    cache = fill(chosen)
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    for _ in range(12):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= int(rng.integers(1, 256))
        entry.path.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])
        (result,) = compile_graph(parse_graph(STEP), chosen)([X, Y])
        assert result.tolist() == [-3, 0, 3, 6]
        assert entry.path.read_bytes() == whole, "it is compiled again and kept"


def test_another_machines_program_under_our_name_is_a_miss(
    chosen: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = fill(chosen)
    (entry,) = cache.entries()
    here = key_of(parse_graph(STEP), chosen)
    elsewhere = replace(host.host_target(), cpu="znver9", features="+avx1024")
    monkeypatch.setattr("taut.runtime.compile.host_target", lambda: elsewhere)
    there = key_of(parse_graph(STEP), chosen)
    assert there != here
    assert cache.get(there.digest) is None
    entry.path.write_bytes(whole_entry(there.digest, b"code of another machine", there.about))
    assert cache.get(here.digest) is None
    told = read_entry(entry)
    assert isinstance(told, WhyNot)
    assert f"made under another key, {there.digest[:16]}" in str(told)


def test_another_versions_programs_are_misses(
    chosen: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = key_of(parse_graph(STEP), chosen)
    for name in ("taut", "source", "llvmlite", "LLVM"):
        versions = json.loads(here.versions) | {name: "9.9"}
        monkeypatch.setattr(keys, "compiler_identity", lambda v=versions: json.dumps(v))
        assert key_of(parse_graph(STEP), chosen).digest != here.digest
    monkeypatch.undo()
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    assert key_of(parse_graph(STEP), chosen).digest != here.digest


def test_source_counts_by_its_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "compiler").mkdir(parents=True)
        (tmp_path / name / "compiler" / "a.py").write_text("x = 1\n")
    one, two = (keys._source_state(tmp_path / name) for name in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "compiler" / "a.py").write_text("x = 2\n")
    assert keys._source_state(tmp_path / "two") != one


def test_an_entry_says_what_it_was_made_of(chosen: Options) -> None:
    key = key_in(content_of(fill(chosen)))
    assert key == key_of(parse_graph(STEP), chosen)
    assert key is not None
    assert (key.name, key.text.splitlines()[1]) == (
        "step", "func(%0: f32[4], %1: f32[4]) -> (f32[4]) {",
    )  # fmt: skip


@pytest.mark.parametrize("about", [b"", b"x", b"{}", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_bytes_that_are_no_key_are_refused(about: bytes) -> None:
    with pytest.raises(ValueError, match="not a key"):
        Key.from_about(about)


def test_keys_of_other_shapes_are_refused() -> None:
    import zlib

    good = {"graph": "g", "machine": "{}", "versions": "{}", "options": "{}"}
    assert Key.from_about(zlib.compress(json.dumps(good).encode())).graph == "g"
    for bad in ({"graph": 3}, {"machine": "[]"}, {"machine": "{"}, {"colour": "red"}):
        with pytest.raises(ValueError, match="not a key"):
            Key.from_about(zlib.compress(json.dumps(good | bad).encode()))


# --- taut cache verify ----------------------------------------------------------------------------


def test_a_good_cache_is_verified(chosen: Options) -> None:
    assert run("verify").output == "0 entries good, 0 bad\n"
    fill(chosen)
    result = run("verify")
    assert (result.exit_code, result.output) == (0, "1 entry good, 0 bad\n")


def test_bad_entries_are_found_and_removed(chosen: Options) -> None:
    cache = fill(chosen, STEP, STEP.replace("sub", "add"))
    first, second = cache.entries()
    first.path.write_bytes(first.path.read_bytes()[:-1])
    found = run("verify")
    why = "its checksum does not match: it is damaged or cut short"
    assert (found.exit_code, found.stdout) == (
        1, f"{first.key[:16]}: {why}\n1 entry good, 1 bad\n",
    )  # fmt: skip
    fixed = run("verify", "--fix")
    assert (fixed.exit_code, fixed.stdout) == (
        0, f"{first.key[:16]}: {why}; removed\n1 entry good, 1 bad\n",
    )  # fmt: skip
    assert [entry.key for entry in cache.entries()] == [second.key]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: b"PK" + data, "it is no entry of taut's"),
        (lambda data: data[:7] + b"\x01" + data[8:], "it has another version's format"),
        (lambda data: data[:50], "it is cut short"),
        (lambda data: data + b"x", "its checksum does not match"),
    ],
)
def test_what_is_wrong_is_told(chosen: Options, damage: Callable[[bytes], bytes], why: str) -> None:
    (entry,) = fill(chosen).entries()
    entry.path.write_bytes(damage(entry.path.read_bytes()))
    assert f": {why}" in run("verify").stdout


def test_a_key_that_does_not_fit_its_parts_is_found(chosen: Options) -> None:
    cache = fill(chosen)
    (entry,) = cache.entries()
    key = replace(key_of(parse_graph(STEP), chosen), graph="another")
    entry.path.write_bytes(whole_entry(entry.key, b"code", key.about))
    assert "what it says of its key does not give its key" in run("verify").stdout


# --- taut cache why-miss --------------------------------------------------------------------------


def test_a_hit_and_an_empty_cache_are_told(chosen: Options) -> None:
    assert run("why-miss", "step.ir").stdout == (
        "step: not in the cache, which holds no other program to compare with\n"
    )
    (entry,) = fill(chosen).entries()
    assert run("why-miss", "step.ir").stdout == f"step: in the cache, as {entry.key[:16]}\n"
    entry.path.write_bytes(b"")
    assert "its entry" in run("why-miss", "step.ir").stdout
    assert "is bad: it is empty" in run("why-miss", "step.ir").stdout


def test_a_changed_graph_is_told_with_the_change(chosen: Options) -> None:
    (entry,) = fill(chosen, STEP.replace("sub", "add")).entries()
    lines = run("why-miss", "step.ir").stdout.splitlines()
    head = f"step: not in the cache; the closest entry is {entry.key[:16]}, step, used "
    assert lines[0].startswith(head)
    assert lines[1] == "  graph     differs"
    changed = [line.strip() for line in lines if line.strip()[:2] in ("- ", "+ ")]
    assert [line[0] for line in changed] == ["-", "+"]
    assert "= add" in changed[0]
    assert "= sub" in changed[1]
    assert lines[-3:] == ["  machine   the same", "  versions  the same", "  options   the same"]


def test_a_graph_that_is_another_altogether_is_cut_short(chosen: Options) -> None:
    body = "".join(f"  %{n + 1}: f32[4] = exp %{n}\n" for n in range(100))
    text = f"taut-ir 1\nfunc @long(%0: f32[4]) -> (f32[4]) {{\n{body}  return %100\n}}\n"
    fill(chosen, text)
    lines = run("why-miss", "step.ir").stdout.splitlines()
    assert len(lines) == 1 + 4 + 40 + 1
    assert re.fullmatch(r"    and \d+ more lines", lines[-4])


def test_options_are_told(chosen: Options) -> None:
    fill(chosen.replace(opt_level=3))
    lines = run("why-miss", "step.ir").stdout.splitlines()[1:]
    assert lines == [
        "  graph     the same",
        "  machine   the same",
        "  versions  the same",
        "  options   differs",
        "    opt_level: 3 there, 1 here",
    ]


def elsewhere(cache: Cache, part: str, **changes: str | int) -> Key:
    """Puts the only entry of a cache there as if made with other fields of a part of its key."""
    content = content_of(cache)
    key = key_in(content)
    assert key is not None
    cache.clear()
    other = replace(key, **{part: json.dumps(json.loads(getattr(key, part)) | changes)})
    cache.put(other.digest, content.payload, other.about)
    return other


def test_the_machine_and_the_versions_are_told(chosen: Options) -> None:
    cache = fill(chosen)
    here = key_of(parse_graph(STEP), chosen)
    features = host.host_target().features
    elsewhere(cache, "machine", cpu="znver9", features=f"{features},+avx1024", cores=99)
    told = run("why-miss", "step.ir").stdout
    cores = host.host_target().cores
    assert f"    cpu: znver9 there, {host.host_target().cpu} here\n" in told
    assert "    features: avx1024 there only\n" in told
    assert f"    cores: 99 there, {cores} here\n" in told
    cache.clear()
    fill(chosen.replace(opt_level=2))
    there = elsewhere(cache, "versions", taut="0.0.1")
    assert part_changes("versions", there, here) == ["taut: 0.0.1 there, 0.1.0 here"]
    assert "    taut: 0.0.1 there, 0.1.0 here\n" in run("why-miss", "step.ir").stdout


def test_the_closest_shares_most_parts(chosen: Options) -> None:
    other = STEP.replace("sub", "add").replace("@step", "@other")
    cache = fill(chosen, other)
    fill(chosen.replace(opt_level=0), STEP)  # three parts each; of one graph is closer
    found = explain(cache, key_of(parse_graph(STEP), chosen))
    assert found is not None
    assert found.key.name == "step"
    assert not found.is_hit


def test_functions_are_explained_too(chosen: Options, tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text("def twice(x):\n    return x + x\n")
    fill(chosen)
    arguments = ("why-miss", str(tmp_path / "twice.py") + ":twice", "--arg", "x=f32[4]")
    assert "twice: not in the cache; the closest entry is" in run(*arguments).stdout


def test_without_a_cache_there_is_nothing_to_explain(
    chosen: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "default_options", lambda: chosen.replace(cache=False))
    result = run("why-miss", "step.ir")
    assert (result.exit_code, result.stderr) == (
        1,
        "taut: error: TAUT_CACHE=0 turns the cache off\n",
    )
    monkeypatch.setattr(options, "default_options", lambda: chosen.replace(backend="numba"))
    assert "of the numba back end are not kept on disk" in run("why-miss", "step.ir").stderr


# --- taut cache pack and unpack -------------------------------------------------------------------


def test_packed_entries_seed_another_cache(chosen: Options, tmp_path: Path) -> None:
    cache = fill(chosen, STEP, STEP.replace("sub", "add"))
    assert run("pack", "kept.pack").stdout.startswith("packed 2 entries, ")
    again = tmp_path / "again.pack"
    pack_entries(cache, again)
    assert again.read_bytes() == (tmp_path / "kept.pack").read_bytes()
    before = {entry.key: entry.path.read_bytes() for entry in cache.entries()}
    cache.clear()
    result = run("unpack", "kept.pack")
    assert (result.exit_code, result.stdout) == (0, "unpacked 2 entries, refused 0\n")
    assert {entry.key: entry.path.read_bytes() for entry in cache.entries()} == before
    assert run("why-miss", "step.ir").stdout.startswith("step: in the cache")


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("machine", {"features": "+avx1024"}, "machine: features: avx1024 there only"),
        ("machine", {"cores": 99}, "machine: cores: 99 there, "),
        ("versions", {"LLVM": "9.9"}, "version of taut or LLVM: LLVM: 9.9 there, "),
    ],
)
def test_entries_of_elsewhere_are_refused_with_the_reason(
    chosen: Options, part: str, change: dict[str, str | int], reason: str
) -> None:
    cache = fill(chosen)
    other = elsewhere(cache, part, **change)
    run("pack", "kept.pack")
    cache.clear()
    result = run("unpack", "kept.pack")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"refused {other.digest[:16]}: it was made for another {reason}"
    )
    assert result.stdout.endswith("unpacked 0 entries, refused 1\n")
    assert cache.entries() == []


def test_bad_entries_are_neither_packed_nor_unpacked(chosen: Options, tmp_path: Path) -> None:
    cache = fill(chosen)
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    names = {
        entry.path.name: whole[:-1],
        f"../../{entry.path.name}": whole,
        "notes.txt": b"a letter",
        f"{'0' * 64}.tautobj": whole,
        f"{'1' * 64}.tautobj": whole_entry("1" * 64, b"code", b""),
    }
    with zipfile.ZipFile(tmp_path / "bad.pack", "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    cache.clear()
    result = run("unpack", "bad.pack")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "unpacked 0 entries, refused 5"
    assert "does not say what it was made for" in result.stdout
    assert cache.entries() == []
    assert not list(tmp_path.parent.glob("*.tautobj"))
    entry.path.write_bytes(whole[:-1])
    packed = run("pack", "good.pack")
    assert packed.stdout.startswith("packed 0 entries, ")
    assert packed.stderr.startswith(f"left out {entry.key[:16]}: its checksum")


def test_every_flipped_byte_of_a_pack_is_harmless(chosen: Options, tmp_path: Path) -> None:
    cache = fill(chosen)
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    run("pack", "kept.pack")
    packed = (tmp_path / "kept.pack").read_bytes()
    for place in range(0, len(packed), 23):
        cache.clear()
        data = bytearray(packed)
        data[place] ^= 0x41
        (tmp_path / "flipped.pack").write_bytes(data)
        result = run("unpack", "flipped.pack")
        assert result.exit_code in (0, 1), (place, result.stderr)
        for kept in cache.entries():
            assert (kept.key, kept.path.read_bytes()) == (entry.key, whole), place


def test_files_that_are_no_packs_are_the_users_errors(chosen: Options, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear reader")
    said = run("unpack", "letter")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "letter was not made by `taut cache pack`: " in said.stderr
    assert "cannot read nix.pack: No such file" in run("unpack", "nix.pack").stderr
    assert "cannot write nix/kept.pack: No such file" in run("pack", "nix/kept.pack").stderr


def test_a_content_is_what_was_written() -> None:
    assert read_content(whole_entry("a" * 64, b"pay", b"about")) == Content(
        "a" * 64, b"about", b"pay"
    )
