"""Features: what a site wants done to its answers, and how that stands in the keys of what is stored. Pure."""

from __future__ import annotations

import abc
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from .errors import SettingsError
from .keys import Target
from .semantics.fields import Headers, first

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
PREFIX: Final = ":"
"""What the names of features begin with among the fields that select a response: no field of a request does."""


class Asked(NamedTuple):
    """What a feature may go by: the fields, the path and the query of a request."""

    headers: Headers
    path: str
    query: str


class Transformed(NamedTuple):
    """What a feature makes of a body; None: the media type stays, and no coding is added."""

    body: bytes
    content_type: str | None = None
    coding: str | None = None


class Feature(abc.ABC):
    """Something that is done to answers, once for each variant that is stored.

    `name` is a token. `order` says which of several comes first. `varies_on` are the request fields that caches
    between us and the user must know.
    """

    name: str
    order: int = 50
    varies_on: tuple[str, ...] = ()

    @abc.abstractmethod
    def validate(self, key: str, options: Any) -> Any:
        """Check options, and give them in the form that the other methods get. Raises `SettingsError` with `key`."""

    @abc.abstractmethod
    def affects(self, content_type: str) -> bool:
        """Whether it may change answers of a media type, or makes some of it."""

    @abc.abstractmethod
    def select(self, options: Any, asked: Asked) -> str:
        """Say what is to be done for a request, as it stands in the key; empty for nothing. Pure and cheap."""

    @abc.abstractmethod
    def apply(self, options: Any, selected: str, body: bytes, content_type: str) -> Transformed | None:
        """Do what was selected, in a thread; None to leave a body as it is. May raise anything.

        `content_type` is the field with its parameters.
        """

    def suits(self, _headers: Headers) -> bool:
        """Whether a response with these fields may be changed."""
        return True

    def target(self, _options: Any, target: Target) -> Target:
        """The target without what is the feature's own in it."""
        return target

    def needs_plain(self, _options: Any) -> bool:
        """Whether it can do nothing with a coded body, so that the origin should send none."""
        return False


class Enabled(NamedTuple):
    """A feature with its options, and a `mark` that stands for them in keys: other options make something else."""

    feature: Feature
    options: Any
    mark: str


class Step(NamedTuple):
    """What one feature is to do to a body."""

    enabled: Enabled
    selected: str


class FeatureSet:
    """The features of a site, in their order."""

    def __init__(self, enabled: Sequence[Enabled] = ()) -> None:
        self._enabled = sorted(enabled, key=lambda each: (each.feature.order, each.feature.name))
        self.needs_plain = any(each.feature.needs_plain(each.options) for each in self._enabled)

    def __bool__(self) -> bool:
        return bool(self._enabled)

    def names_for(self, headers: Headers) -> tuple[str, ...]:
        """The names, as they stand among selecting fields, of those that may change a response with these fields."""
        return tuple(sorted(PREFIX + each.feature.name for each in self._affecting(headers))) if self._enabled else ()

    def varies_on(self, headers: Headers) -> tuple[str, ...]:
        """The request fields that such a response depends on for everybody downstream."""
        return tuple(dict.fromkeys(name for each in self._affecting(headers) for name in each.feature.varies_on))

    def selectors(self, asked: Asked) -> list[tuple[str, str]]:
        """What each of them would do for a request, by its name; nothing is empty."""
        selected = ((each, each.feature.select(each.options, asked)) for each in self._enabled)
        return [(PREFIX + each.feature.name, f"{value} {each.mark}" if value else "") for each, value in selected]

    def steps(self, asked: Asked, headers: Headers) -> list[Step]:
        """What is to be done to a response with these fields for a request."""
        suiting = (each for each in self._affecting(headers) if each.feature.suits(headers))
        steps = [Step(each, each.feature.select(each.options, asked)) for each in suiting]
        return [step for step in steps if step.selected]

    def target(self, target: Target) -> Target:
        """The target without what is the features' own in it."""
        for each in self._enabled:
            target = each.feature.target(each.options, target)
        return target

    def _affecting(self, headers: Headers) -> list[Enabled]:
        kind = media_type(headers)
        return [each for each in self._enabled if each.feature.affects(kind)]


NO_FEATURES: Final = FeatureSet()


def _mark(options: Any) -> str:
    described = msgspec.json.encode(options, order="deterministic", enc_hook=repr)
    return hashlib.blake2b(described, digest_size=3).hexdigest()


def media_type(headers: Headers) -> str:
    """The media type of a response in lower case, without parameters; empty when it names none."""
    return bare_type(first(headers, "content-type") or "")


def bare_type(content_type: str) -> str:
    """The media type of a field in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def own_names(vary: Sequence[str]) -> tuple[str, ...]:
    """The names of features among the fields that select a response."""
    return tuple(name for name in vary if name.startswith(PREFIX))


class Catalogue:
    """The features that there are, by name."""

    def __init__(self) -> None:
        self._features: dict[str, Feature] = {}

    def add(self, feature: Feature) -> None:
        """Add a feature; another one of its name is replaced. Raises `ValueError` for a name that is none."""
        if not _NAME.fullmatch(feature.name):
            raise ValueError(f"{feature.name!r} is no name of a feature: small letters, digits, - and _")
        self._features[feature.name] = feature

    def make(self, key: str, wanted: Mapping[str, Any]) -> FeatureSet:
        """Make the set of those that are wanted: options by name, False for off. Raises `SettingsError`."""
        enabled = []
        for name, options in wanted.items():
            feature = self._features.get(name)
            if feature is None:
                known = ", ".join(sorted(self._features))
                raise SettingsError(f"{key}.{name}", f"is no feature; there are {known}")
            if options is not False:
                enabled.append(Enabled(feature, feature.validate(f"{key}.{name}", options), _mark(options)))
        return FeatureSet(enabled) if enabled else NO_FEATURES


CATALOGUE: Final = Catalogue()
"""Every feature that sites and settings may name."""


def register_feature(feature: Feature) -> None:
    """Add a feature of one's own, before the application starts; sites and settings may name it then."""
    CATALOGUE.add(feature)
