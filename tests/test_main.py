"""What runs the tests: it leaves nothing out, says whatever fails, and mixes nobody's words with another's."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.__main__ import AFTER_CHECKS, FIRST_HALF, Command, Part, main, parts, remember_failures, run

ROOT = Path(__file__).parents[1]


def saying(word: str, status: int = 0) -> Command:
    """A command that says a word a hundred times."""
    return (sys.executable, "-c", f"for _ in range(100): print({word!r}, flush=True)\nexit({status})")


def test_what_one_part_leaves_out_is_what_the_others_run() -> None:
    checks, first, second = ([each for each in part.commands[-1] if "tests/" in each] for part in parts())
    assert sorted(second) == sorted(f"--ignore={path}" for path in (*checks, *first))
    assert (tuple(first), tuple(checks)) == (FIRST_HALF, AFTER_CHECKS)
    assert all((ROOT / path).exists() for path in (*first, *checks))


def test_what_each_part_says_stays_together(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([Part("one", [saying("a"), saying("b")]), Part("two", [saying("c")])])
    said = capfd.readouterr().out.split()
    one = ["---", "one", "---", *["a"] * 100, *["b"] * 100]
    assert said[: len(one) + 103] == [*one, "---", "two", "---", *["c"] * 100]


def test_a_part_that_fails_ends_there_and_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert not run([Part("one", [saying("a", 1), saying("b")]), Part("two", [saying("c")])])
    said = capfd.readouterr().out
    assert (said.count("a\n"), said.count("b\n"), said.count("c\n")) == (100, 0, 100)
    assert "\none: FAILED in " in said
    assert "\ntwo: passed in " in said


def test_arguments_are_for_one_pytest_after_the_checks(capfd: pytest.CaptureFixture[str]) -> None:
    checks = shlex.join(saying("checked"))
    assert main(["--checks", checks, "--version"]) == 0
    assert "".join(capfd.readouterr()) == "checked\n" * 100 + f"pytest {pytest.__version__}\n"
    assert main(["--checks", checks, "--no-such-option"]) == 1
    assert "--no-such-option" in capfd.readouterr().err
    assert main(["--checks", shlex.join(saying("wrong", 1)), "--version"]) == 1
    assert "".join(capfd.readouterr()) == "wrong\n" * 100


def test_a_later_pytest_knows_what_failed_in_any_part(tmp_path: Path) -> None:
    def last_words(cache: str, *arguments: str) -> str:
        command = (sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", *arguments)
        bare = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        ended = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
        return ended.stdout.splitlines()[-1]

    for name, holds in (("one", False), ("two", True), ("three", False)):
        (tmp_path / f"test_{name}.py").write_text(f"def test_it() -> None:\n    assert {holds}\n")
        assert last_words(f"caches/{name}", f"test_{name}.py").startswith("1 passed" if holds else "1 failed")
    remember_failures(tmp_path / "caches")
    assert last_words("caches", "--last-failed").startswith("2 failed in")
