"""The floors of the package: no import runs upwards, none in a circle."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiohttp_regioncache

NAME = "aiohttp_regioncache"
ROOT = Path(aiohttp_regioncache.__file__).parent
GROUND = 0
FLOORS = {
    "store": 1,
    "exchange": 2,
    "exchanges": 3,
    "responses": 2,
    "origins": 2,
    "transforms": 2,
    "reads": 3,
    "writes": 3,
    "sync": 3,
    "sites": 3,
    "control": 4,
    "gateway": 4,
    "middleware": 5,
    "shortcut": 6,
    "plugin": 7,
    "idempotency": 7,
    "": 8,
    "cli": 9,
    "__main__": 10,
}
"""The floor of each part; what is not named here lies on the ground."""
DOES_IO = {"aiohttp", "asyncio", "redis", "socket", "subprocess", "threading", "urllib.request"}


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _sources() -> dict[str, ast.Module]:
    return {_module_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that a `from` import names, with the package's name before it."""
    if not node.level:
        return node.module or ""
    is_package = (ROOT / module.replace(".", "/") / "__init__.py").exists()
    parents = [NAME, *filter(None, module.split("."))]
    above = node.level - 1 if is_package else node.level
    return ".".join([*parents[: len(parents) - above], *filter(None, [node.module])])


def _imported(module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _own_imports(module: str) -> set[str]:
    """The modules of ours that a module imports, wherever in its text."""
    names = (name for name in _imported(module, ast.walk(_sources()[module])) if f"{name}.".startswith(f"{NAME}."))
    inside = {name.removeprefix(NAME).lstrip(".") for name in names}
    # An import of a name from a package is one of the package only when the name is no module of it.
    modules = {name for name in inside if name in _sources()}
    return {name for name in modules if not any(other.startswith(f"{name}.") for other in modules)} - {module}


def _part(module: str) -> str:
    return module.partition(".")[0]


def _floor(module: str) -> int:
    return FLOORS.get(_part(module), GROUND)


@pytest.mark.parametrize("module", sorted(_sources()))
def test_no_import_runs_upwards(module: str) -> None:
    upwards = {other for other in _own_imports(module) if _floor(other) > _floor(module)}
    assert not upwards, f"{module or NAME} (floor {_floor(module)}) imports {sorted(upwards)}"


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle in a graph, empty when there is none."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        done.add(node)
        return next((found for other in sorted(graph[node]) if (found := walk(other, [*way, node]))), [])

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def test_no_import_runs_in_a_circle() -> None:
    assert _circle({module: _own_imports(module) for module in _sources()}) == []


def test_no_two_parts_import_each_other() -> None:
    parts: dict[str, set[str]] = {_part(module): set() for module in _sources()}
    for module in _sources():
        parts[_part(module)] |= {_part(other) for other in _own_imports(module)} - {_part(module)}
    assert _circle(parts) == []


def test_the_imports_are_seen() -> None:
    assert {"settings", "store.region", "sync.loop", "middleware"} <= _own_imports("plugin")
    assert {"store.entries", "overlay", "semantics.vary"} <= _own_imports("reads.lookup")
    assert "plugin" in _own_imports("")
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def _at_run_time(nodes: list[ast.stmt]) -> Iterator[ast.AST]:
    for node in nodes:
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from () if is_guard else ast.walk(node)


@pytest.mark.parametrize("module", [name for name in sorted(_sources()) if _part(name) == "semantics"])
def test_semantics_know_nothing_but_semantics(module: str) -> None:
    assert {_part(other) for other in _own_imports(module)} <= {"semantics"}


@pytest.mark.parametrize(
    "module",
    [
        name
        for name, tree in sorted(_sources().items())
        if _part(name) == "semantics" or "Pure." in (ast.get_docstring(tree) or "").partition("\n")[0]
    ],
)
def test_what_is_pure_does_no_input_or_output(module: str) -> None:
    found = set(_imported(module, _at_run_time(_sources()[module].body)))
    assert not {name for name in found if name in DOES_IO or _part(name) in DOES_IO}
