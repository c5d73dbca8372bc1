"""The tests that the documentation names are there, and its settings and examples are those of the package."""

import re
from pathlib import Path

import aiohttp_regioncache as regioncache

ROOT = Path(__file__).parent.parent
WRITE_BEHIND = (ROOT / "docs" / "write-behind.md").read_text("utf-8")


def test_every_row_about_a_failure_names_a_test_that_exists() -> None:
    table = WRITE_BEHIND.partition("## When something fails")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        file, name = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row)[-1]
        assert re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), row


def test_every_script_is_described() -> None:
    described = (ROOT / "docs" / "redis.md").read_text("utf-8").partition("## Scripts")[2]
    scripts = (ROOT / "aiohttp_regioncache" / "store" / "scripts").glob("[!_]*.lua")
    assert {path.stem for path in scripts} == set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", described, re.M)))
    )


def test_the_origin_example_is_accepted() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", WRITE_BEHIND, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "write-behind.md", "exec"), names)  # noqa: S102 - our own documentation
    assert names["regioncache"] is regioncache
