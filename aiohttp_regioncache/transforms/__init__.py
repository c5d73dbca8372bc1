"""The features that come with the package: what transforms answers."""

from ..features import CATALOGUE
from .compress import Compress
from .images import Polish, Resize
from .minify import Minify


def register_all() -> None:
    """Make them known to sites and settings."""
    for feature in (Resize(), Polish(), Minify(), Compress()):
        CATALOGUE.add(feature)
