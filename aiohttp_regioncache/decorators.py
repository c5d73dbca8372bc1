"""Rules that stand on handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiohttp import web

from .rules import Rule

_DECORATION: Final = "__regioncache_rule__"

HandlerType = TypeVar("HandlerType", bound=Callable[..., Any])


def cached(**options: Any) -> Callable[[HandlerType], HandlerType]:
    """Say how the answers of a handler are cached; `options` are those of a `Rule` (`ttl`, `per_user`, ...)."""
    return _decorator(options)


def write_behind(**options: Any) -> Callable[[HandlerType], HandlerType]:
    """Take the writes to a handler behind; `options` are those of a `Rule` (`effect`, `affects`, ...)."""
    return _decorator({"write": "behind", **options})


def _decorator(options: dict[str, Any]) -> Callable[[HandlerType], HandlerType]:
    # A mistake shows where it is made; what belongs to the path is checked with it.
    Rule("/", **{name: value for name, value in options.items() if name not in ("affects", "group")})

    def decorate(handler: HandlerType) -> HandlerType:
        merged = {**getattr(handler, _DECORATION, {}), **options}
        setattr(handler, _DECORATION, merged)
        return handler

    return decorate


def decorated_rules(app: web.Application) -> list[Rule]:
    """The rules that decorators put on an application's handlers."""
    rules = []
    for route in app.router.routes():
        if route.resource is None:
            continue
        for method, options in _options_of(route):
            methods = () if method == "*" else (method,)
            rules.append(Rule(route.resource.canonical, methods=methods, **options))
    return rules


def _options_of(route: web.AbstractRoute) -> list[tuple[str, dict[str, Any]]]:
    handler = route.handler
    if options := getattr(handler, _DECORATION, None):
        return [(route.method, options)]
    if not (isinstance(handler, type) and issubclass(handler, web.View)):
        return []
    methods = ((name.upper(), getattr(handler, name, None)) for name in ("get", "post", "put", "patch", "delete"))
    return [(name, options) for name, method in methods if (options := getattr(method, _DECORATION, None))]
