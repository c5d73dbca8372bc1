"""The types that users see: mypy, strict, on a small program."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy comes with the extra lint")

PROGRAM = Path(__file__).with_name("program.py")
ROOT = PROGRAM.parents[2]


@pytest.mark.timeout(180)
def test_mypy_accepts_the_program_and_finds_its_mistakes() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(PROGRAM)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == ""
    assert found.returncode == 0, found.stderr
