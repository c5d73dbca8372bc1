"""The program that runs an outside suite, on a suite of two cases that are settled beforehand."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from .__main__ import main

_RUNNER = """
import json, sys, urllib.error, urllib.request
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
try:  # the edge is there, the origin is not: nobody listens on its port
    urllib.request.urlopen(options["--base"])
except urllib.error.HTTPError as answer:
    assert answer.code == 502
results = json.load(open(options["--tests"]))[options["--connections"]]
json.dump(results, open(options["--out"], "w"))
passed = [outcome is True for outcome in results.values()]
print("reverse proxy tests:")
print(f"  required     1   {'pass' if passed[0] else 'setup_fail'} 1")
print(f"  optimal      1   {'pass' if passed[1] else 'optional_fail'} 1")
"""
_GOOD = {"a": True, "b": True}


def _suite(directory: Path, *results: Mapping[str, object]) -> str:
    (directory / "run.py").write_text(_RUNNER)
    (directory / "origin.py").touch()
    (directory / "cases.json").write_text(json.dumps(dict(zip(("test", "request"), results, strict=True))))
    return str(directory)


@pytest.mark.parametrize(
    ("second", "thresholds", "code"),
    [
        pytest.param(_GOOD, (0, 1), 0, id="as-asked"),
        pytest.param(_GOOD, (0, 2), 1, id="too-few-optimal"),
        pytest.param({"a": ["Setup", "x"], "b": True}, (1, 1), 1, id="differing"),
    ],
)
def test_the_exit_code_tells(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    second: Mapping[str, object],
    thresholds: tuple[int, int],
    code: int,
) -> None:
    suite = _suite(tmp_path, _GOOD, second)
    required, optimal = map(str, thresholds)
    assert main(["--suite", suite, "--required-failures", required, "--optimal", optimal]) == code
    assert capfd.readouterr().out.count("reverse proxy tests:") == 2


def test_failures_of_required_cases_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = {"a": ["Assertion", "x"], "b": True}
    suite = _suite(tmp_path, bad, bad)
    assert main(["--suite", suite, "--required-failures", "1", "--optimal", "1"]) == 0
    assert main(["--suite", suite, "--required-failures", "0", "--optimal", "1"]) == 1
    assert "1 required cases failed, more than 0" in capfd.readouterr().out


def test_a_folder_without_a_suite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--suite", str(tmp_path)])
    assert "has no run.py, origin.py, cases.json" in capsys.readouterr().err
