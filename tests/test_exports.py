"""The public face: its names, their documentation, and what is shipped beside the code."""

import ast
import configparser
import fnmatch
import inspect
import itertools
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

import aiohttp_regioncache

ROOT = Path(aiohttp_regioncache.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def _kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff keeps `__all__` in."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_all_is_sorted_and_complete() -> None:
    names = aiohttp_regioncache.__all__
    assert names == sorted(set(names), key=_kind)
    public = {
        name
        for name, value in vars(aiohttp_regioncache).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(names)


@pytest.mark.parametrize("name", aiohttp_regioncache.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(aiohttp_regioncache, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        text = inspect.getdoc(value) or ""
        assert text.partition("\n")[0].endswith((".", ":"))
        assert not text.startswith(f"{name}(")
        return
    assert any(name in documented for documented in map(_documented_constants, FILES))


def _documented_constants(path: Path) -> set[str]:
    body = ast.parse(path.read_text("utf-8")).body
    names = set()
    for node, after in itertools.pairwise(body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_text:
            names.add(node.target.id)
    return names


def _public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """The public functions, classes and methods of a module with their docstrings."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if {"override", "overload"} & {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}:
            continue
        yield prefix + node.name, ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            yield from _public(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_documents_what_it_offers(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert not tree.body or ast.get_docstring(tree)
    assert [name for name, text in _public(tree) if not text] == []


def test_what_is_no_code_is_shipped() -> None:
    """Every file of the package is a module or named in the package data."""
    parser = configparser.ConfigParser()
    parser.read(ROOT.parent / "setup.cfg", "utf-8")
    patterns = {package: value.split() for package, value in parser.items("options.package_data")}
    shipped = [str(Path(*package.split("."), pattern)) for package, values in patterns.items() for pattern in values]
    data = [path.relative_to(ROOT.parent) for path in ROOT.rglob("*") if path.is_file() and path.suffix != ".py"]
    unshipped = [
        str(path)
        for path in data
        if "__pycache__" not in path.parts and not any(fnmatch.fnmatch(str(path), pattern) for pattern in shipped)
    ]
    assert unshipped == []


def test_what_is_shipped_is_found_as_a_resource() -> None:
    package = resources.files("aiohttp_regioncache")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("data", "countries.csv").is_file()
    assert package.joinpath("store", "scripts", "accept.lua").is_file()


def test_a_package_has_an_init_file() -> None:
    """Otherwise the packages that setuptools finds lack it."""
    folders = {path.parent for path in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
