"""Sites as text: TOML and JSON. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from ..errors import SettingsError
from ..site import Site, site_data, site_from

Form = Literal["toml", "json"]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def export_sites(sites: Iterable[Site], form: Form) -> str:
    """Write sites as text that `import_sites` reads: TOML (`[[sites]]`) or JSON (`{"sites": [...]}`)."""
    found = [site_data(site) for site in sites]
    if form == "json":
        return json.dumps({"sites": found}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return "\n".join("[[sites]]\n" + "".join(_toml_lines(site)) for site in found)


def import_sites(text: str, form: Form) -> list[Site]:
    """Read sites from text. Raises `SettingsError` naming the key for what is wrong or there twice."""
    try:
        data = tomllib.loads(text) if form == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError("sites", f"is no {form.upper()}: {error}") from None
    if not isinstance(data, dict) or set(data) - {"sites"} or not isinstance(data.get("sites", []), list):
        raise SettingsError("sites", "must be the one thing in it, a list of sites")
    sites = [site_from(each, f"sites[{number}]") for number, each in enumerate(data.get("sites", []))]
    _check_doubles(sites)
    return sites


def _check_doubles(sites: Iterable[Site]) -> None:
    seen: set[str] = set()
    for site in sites:
        for name in (*site.hosts, *([f"id {site.id}"] if site.id else [])):
            if name in seen:
                raise SettingsError(f"sites[{site.domain}]", f"{name} is another site's too")
            seen.add(name)


def _toml_lines(data: Mapping[str, Any]) -> Iterator[str]:
    for name, value in data.items():
        yield f"{_toml_key(name)} = {_toml(value)}\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(name)} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return _toml_text(value)
    return json.dumps(value)


def _toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _toml_text(name)


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
