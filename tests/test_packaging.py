"""The package is where pyproject.toml says, its public names import, and its layers are kept."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import taut

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FACADE = ROOT / "frontend" / "facade"


def folder_of(package: str) -> Path:
    """Where pyproject.toml says that a package lies."""
    mapped: dict[str, str] = SETUPTOOLS["package-dir"]
    return ROOT / mapped.get(package, package.removeprefix("taut.").replace(".", "/"))


PACKAGES: dict[str, Path] = {name: folder_of(name) for name in SETUPTOOLS["packages"]}


def sources(folder: Path) -> list[Path]:
    """The Python files that lie in a folder itself."""
    return sorted(folder.glob("*.py"))


def public_modules() -> list[str]:
    """Every dotted name that the facade offers."""
    names = (
        ".".join(("taut", *path.relative_to(FACADE).with_suffix("").parts))
        for path in FACADE.rglob("*.py")
    )
    return sorted(name.removesuffix(".__init__") for name in names)


# ---------------------------------------------------------------- where things lie


def test_pyproject_lists_every_folder_with_code_once() -> None:
    code = {
        path.parent
        for layer in ("compiler", "runtime", "frontend")
        for path in (ROOT / layer).rglob("*.py")
    }
    assert set(PACKAGES.values()) == code | {ROOT}
    assert len(PACKAGES) == len(SETUPTOOLS["packages"])
    assert all((folder / "__init__.py").exists() for folder in code)


def test_what_is_no_code_is_packaged_too() -> None:
    """A page's style, say: the wheel would lack a file that no pattern names."""
    listed: dict[str, list[str]] = SETUPTOOLS["package-data"]
    for package, folder in PACKAGES.items():
        others = {p.name for p in folder.iterdir() if p.is_file() and p.suffix != ".py"}
        if folder != ROOT:
            found = {p.name for pattern in listed.get(package, ()) for p in folder.glob(pattern)}
            assert others == found


def test_root_has_no_other_code() -> None:
    assert [path.name for path in sources(ROOT)] == ["__init__.py", "__main__.py"]


def test_type_checkers_see_the_same_package() -> None:
    links = {link.name: link.resolve() for link in (ROOT / ".typing" / "taut").iterdir()}
    files = {name: ROOT / name for name in ("__init__.py", "__main__.py", "py.typed")}
    top = {name.split(".")[1]: path for name, path in PACKAGES.items() if name.count(".") == 1}
    assert links == files | top


def test_package_under_test_is_this_checkout() -> None:
    """An installed copy holds every module of the checkout once, unchanged, and nothing else."""
    installed = Path(taut.__file__).resolve().parent
    if installed == ROOT:
        pytest.skip("taut is imported from the checkout itself, not from a wheel")
    expected = {
        Path(*package.split(".")[1:], path.name): path.read_bytes()
        for package, folder in PACKAGES.items()
        for path in sources(folder)
    }
    found = {path.relative_to(installed): path.read_bytes() for path in installed.rglob("*.py")}
    stale = {path for path in found.keys() | expected if found.get(path) != expected.get(path)}
    assert not stale, "the installed taut differs: rm -rf build, then pip install again"
    assert (installed / "py.typed").exists()


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", public_modules())
def test_dotted_name_gives_one_module(name: str) -> None:
    module = importlib.import_module(name)
    found: object = taut
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert found is module is sys.modules[name]
    assert module.__name__ == name


@pytest.mark.parametrize("name", public_modules())
def test_public_names_are_the_front_ends_own(name: str) -> None:
    """A facade makes nothing: each object is the very one that its home module holds."""
    module = importlib.import_module(name)
    for attribute in getattr(module, "__all__", ()):
        value = getattr(module, attribute)
        home = sys.modules.get(getattr(value, "__module__", None) or "")
        if isinstance(home, ModuleType) and hasattr(value, "__qualname__"):
            assert home.__name__ not in public_modules()
            assert not home.__name__.startswith("taut.frontend.facade")
            assert getattr(home, value.__qualname__, value) is value


def test_import_is_light() -> None:
    heavy = ["click", "numba", "rich", "scipy", "torch"]
    program = f"import sys, taut; print([name for name in {heavy} if name in sys.modules])"
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert output.strip() == "[]"


# ---------------------------------------------------------------- what import-linter does not see


def imported(path: Path) -> set[str]:
    """The absolute names that a file imports; ``from a import b`` gives ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


def test_compiler_never_imports_the_llvm_binding() -> None:
    guilty = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "compiler").rglob("*.py")
        if any(name.startswith("llvmlite.binding") for name in imported(path))
    ]
    assert guilty == []
