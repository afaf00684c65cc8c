"""The documents run: what they say that a program prints is what it prints.

Blocks of a Markdown file are executed in order, all in one namespace and one empty folder:

    python     executed; a block whose first line is `# name.py` is kept as that file, too
    text       directly after a python block: what that prints (without one it prints nothing)
    console    lines `$ command` for bash, each followed by what it prints
    others     left alone

A line `...` in an expected output stands for any lines.  After a change that alters outputs,
`python tests/test_docs.py --update README.md` writes the new ones, but into outputs with `...`.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    path for name in ("docs", "examples", "benchmarks") for path in (ROOT / name).rglob("*.md")
)
DOCUMENTS = ["README.md", "CHANGELOG.md", *sorted(p.relative_to(ROOT).as_posix() for p in PAGES)]
FENCE = re.compile(r"^```(\w*)\s*$")
FILE = re.compile(r"^# (\w+\.py)$")
SHELL = """
python() {{ {python} "$@"; }}
taut() {{ {python} -m taut "$@"; }}
{command}
"""


# --- reading --------------------------------------------------------------------------------------


@dataclass
class Block:
    """A fenced block: what follows the fence, its lines, and the number of the first of them."""

    language: str
    lines: list[str]
    start: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass
class Piece:
    """Something to execute and the lines (from `start`, counted from 1) that it should print."""

    kind: str
    source: str
    line: int
    expected: list[str] = field(default_factory=list)
    start: int = 0


def blocks(lines: list[str]) -> Iterator[Block]:
    """The fenced blocks of a document."""
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        opened = FENCE.match(line)
        if opened:
            body = [text for _, text in itertools.takewhile(lambda x: x[1] != "```", numbered)]
            yield Block(opened[1], body, number + 1)


def pieces(lines: list[str]) -> Iterator[Piece]:
    """What a document asks to execute, in order."""
    found = list(blocks(lines))
    for block, following in itertools.zip_longest(found, found[1:]):
        if block.language == "python":
            piece = Piece("python", block.text, block.start)
            if following is not None and following.language == "text":
                piece.expected, piece.start = following.lines, following.start
            yield piece
        elif block.language == "console":
            yield from commands(block)


def commands(block: Block) -> Iterator[Piece]:
    """The commands of a console block."""
    starts = [i for i, line in enumerate(block.lines) if line.startswith("$ ")]
    for first, last in itertools.pairwise([*starts, len(block.lines)]):
        source, place = block.lines[first][2:], block.start + first
        yield Piece("console", source, place, block.lines[first + 1 : last], place + 1)


# --- running --------------------------------------------------------------------------------------


class Document:
    """A document that is being executed in the current folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text(encoding="utf-8").splitlines()
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.changes: list[tuple[Piece, list[str]]] = []

    def run(self) -> bool:
        """Executes everything and tells what differs; whether nothing did."""
        for piece in pieces(self.lines):
            printed = (self._python if piece.kind == "python" else self._console)(piece)
            lines = printed.rstrip("\n").split("\n") if printed.strip("\n") else []
            if not matches(piece.expected, lines):
                self.changes.append((piece, lines))
                self._tell(piece, lines)
        return not self.changes

    def _python(self, piece: Piece) -> str:
        named = FILE.match(piece.source.partition("\n")[0])
        if named:
            Path(named[1]).write_text(f"{piece.source}\n", encoding="utf-8")
            code = compile(piece.source, named[1], "exec")
        else:  # as if the rest of the document were empty: tracebacks show its lines
            code = compile("\n" * (piece.line - 1) + piece.source, self.path.name, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.namespace)  # noqa: S102 (the document's own code)
        return printed.getvalue()

    def _console(self, piece: Piece) -> str:
        text = SHELL.format(python=sys.executable, command=piece.source)
        done = subprocess.run(
            ["bash", "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def _tell(self, piece: Piece, printed: list[str]) -> None:
        print(f"{self.path.name}:{piece.line}: prints something else")
        print(
            "\n".join(difflib.unified_diff(piece.expected, printed, "says", "prints", lineterm=""))
        )

    def update(self) -> None:
        """Writes what was printed into the document, last first, so that line numbers hold."""
        for piece, printed in reversed(self.changes):
            if not piece.start:
                print(f"{self.path.name}:{piece.line}: add a text block for what this prints")
            elif "..." not in (line.strip() for line in piece.expected):
                self.lines[piece.start - 1 : piece.start - 1 + len(piece.expected)] = printed
        self.path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether lines are as expected, `...` being any lines."""
    parts = (r"(?:.*\n)*?" if x.strip() == "..." else f"{re.escape(x)}\n" for x in expected)
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in printed)) is not None


def main() -> int:
    """Executes one document, on default settings and with an empty cache; 0 if it is right."""
    parser = argparse.ArgumentParser(description="execute a document")
    parser.add_argument("document", type=Path)
    parser.add_argument("--update", action="store_true", help="write what is printed into it")
    options = parser.parse_args()
    document = Document(options.document.resolve())
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in os.environ if name.startswith("TAUT_")]:
            del os.environ[name]
        os.environ["TAUT_CACHE_DIR"] = f"{folder}/cache"
        os.environ["PYTHONWARNINGS"] = "error"
        warnings.simplefilter("error")
        os.chdir(folder)
        good = document.run()
        os.chdir(ROOT)
    if options.update:
        document.update()
    return 0 if good else 1


# --- tests ----------------------------------------------------------------------------------------


def lines_of(document: str) -> list[str]:
    return (ROOT / document).read_text(encoding="utf-8").splitlines()


def executed() -> list[str]:
    """The documents that have something to execute."""
    return [document for document in DOCUMENTS if list(pieces(lines_of(document)))]


@pytest.mark.parametrize("document", executed())
def test_document_prints_what_it_says(document: str) -> None:
    command = [sys.executable, __file__, str(ROOT / document)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_documents_that_must_run_do() -> None:
    assert {"README.md", "docs/walkthrough.md", "docs/adding-a-primitive.md"} <= set(executed())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / document).parent / path if path else ROOT / document
        assert place.exists(), target
        if anchor:
            assert anchor in map(slug, headings(place.read_text(encoding="utf-8"))), target


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", text, re.MULTILINE)


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"`((?:compiler|runtime|frontend|tests|examples|docs)/[^`\s]*)`", text)
    missing = [path for path in named if not list(ROOT.glob(path.rstrip("/")))]
    assert missing == []


@pytest.mark.parametrize("name", ["run", "test"])
def test_readme_has_the_commands_that_ci_runs(name: str) -> None:
    lines = lines_of("README.md")
    mark = lines.index(f"<!-- ci: {name} -->")
    (command,) = [b for b in blocks(lines) if b.start == mark + 3]
    assert command.language == "bash"
    assert command.text.strip()


def test_the_taste_prints_the_same_in_pytorch() -> None:
    pytest.importorskip("torch")
    taste = next(piece for piece in pieces(lines_of("README.md")) if "train.py" in piece.source)
    theirs = re.sub(r"@taut.compile|print\(step.stats\(\)\)", "", taste.source)
    theirs = theirs.replace("import taut", "import torch as taut").replace(
        "from taut", "from torch"
    )
    command, one_thread = [sys.executable, "-c", theirs], {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=one_thread)
    assert run.stdout.splitlines() == taste.expected[:-1]


# --- the runner itself ----------------------------------------------------------------------------

SAMPLE = """
```python
# half.py
x = 4 // 2
print(x, __name__)
```
```text
2 __main__
```
```python
for i in range(x, 6):
    print(i)
```
```text
2
...
5
```
```console
$ echo one; echo two >&2
one
two
$ python half.py
2 __main__
```
"""


def run_text(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Document:
    monkeypatch.chdir(folder)
    path = folder / "sample.md"
    path.write_text(text, encoding="utf-8")
    document = Document(path)
    document.run()
    return document


def test_right_document_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_text(SAMPLE, tmp_path, monkeypatch).changes == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 __main__\n```\n```python", "2 __main__ \n```\n```python"),
        ("...\n5", "...\n6"),
        ("one\ntwo", "two\none"),
        ("$ python half.py\n2 __main__\n", "$ python half.py\n"),
        ("```text\n2\n...\n5\n```\n", ""),
    ],
)
def test_wrong_document_fails_and_is_mended(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in SAMPLE
    document = run_text(SAMPLE.replace(old, new), tmp_path, monkeypatch)
    assert len(document.changes) == 1
    document.update()
    mended = document.path.read_text(encoding="utf-8")
    hopeless = "..." in new or not new  # an output with `...`, or none at all, is for people
    assert (mended == SAMPLE) is not hopeless


if __name__ == "__main__":
    sys.exit(main())
