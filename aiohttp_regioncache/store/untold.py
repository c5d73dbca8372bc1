"""Changes that no region could be told of yet: what they are about is not to be served by this process. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_ALL = "*"


class Untold:
    """Resources by their digest, each as often as it has changed; or, while `all` of them may have, every resource.

    `take_all` counts a change that nobody remembers by name, until `let_all_go`.
    """

    def __init__(self) -> None:
        self._changes: Counter[str] = Counter()

    def __contains__(self, digest: str) -> bool:
        return bool(self._changes) and (digest in self._changes or _ALL in self._changes)

    def __getitem__(self, digest: str) -> int:
        """How many changes of a resource there are: another number after each of them."""
        return self._changes[digest] + self._changes[_ALL]

    def __len__(self) -> int:
        return len(self._changes)

    def take(self, digests: Iterable[str]) -> None:
        """Note a change of some resources."""
        self._changes.update(digests)

    def let_go(self, digests: Iterable[str]) -> None:
        """Note that a region has been told of a change of some resources, or that it is given up."""
        self._changes -= Counter(digests)

    def take_all(self) -> None:
        """Note a change of no matter what."""
        self._changes[_ALL] += 1

    def let_all_go(self) -> None:
        """Note that everything counts as told of that was taken by `take_all`."""
        del self._changes[_ALL]
