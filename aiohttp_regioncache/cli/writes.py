"""`writes`: the queued writes, for an operator."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ..control.listing import WriteFilter, WriteSummary
from ..control.writes import AT_MOST, WriteDesk
from ..errors import RegionUnavailableError, WriteError
from ..store.ended import KINDS
from .arguments import FAILED, OK, USAGE, Commands, add_command, add_group, opened, settings_of, status_of_error
from .output import Progress, complain, moment, say, say_fields, say_json, say_table

_COLUMNS = ("id", "state", "method", "url", "tries", "size", "accepted", "reason")


def add(commands: Commands) -> None:
    """Add the command with its own commands."""
    group = add_group(
        commands,
        "writes",
        summary="list, show, retry and drop queued writes",
        examples=["aiohttp-regioncache writes list --state dead", "aiohttp-regioncache writes show ID"],
    )
    listing = add_command(
        group,
        "list",
        run_list,
        summary="list the writes of the regions",
        examples=[
            "aiohttp-regioncache writes list",
            "aiohttp-regioncache writes list --state dead --url-prefix /items/ --limit 20",
        ],
    )
    listing.add_argument("--state", choices=KINDS, default="pending", help="which (default: %(default)s)")
    _add_filter(listing)
    listing.add_argument("--limit", type=_positive, default=50, help="how many of each region (default: %(default)s)")
    listing.add_argument("--oldest", action="store_true", help="the oldest first")
    show = add_command(
        group,
        "show",
        run_show,
        summary="show one write with its request and its answer",
        examples=["aiohttp-regioncache writes show eu-west-1-0-0f3c..."],
    )
    show.add_argument("id")
    for name, what in (("retry", "queue dead or rejected writes again"), ("drop", "let writes go for good")):
        _add_treatment(group, name, what)


def _add_treatment(group: Commands, name: str, what: str) -> None:
    parser = add_command(
        group,
        name,
        run_treat,
        summary=what,
        examples=[
            f"aiohttp-regioncache writes {name} eu-west-1-0-0f3c...",
            f"aiohttp-regioncache writes {name} --all --state dead --url-prefix /items/",
        ],
    )
    parser.set_defaults(treatment=name)
    parser.add_argument("id", nargs="*")
    parser.add_argument("--all", action="store_true", help="all that the options below mean, instead of ids")
    kinds = [kind for kind in KINDS if name == "drop" or kind != "pending"]
    parser.add_argument("--state", choices=kinds, default="dead", help="which (default: %(default)s)")
    _add_filter(parser)
    parser.add_argument(
        "--limit", type=_positive, default=AT_MOST, help="at most so many of each region (default: %(default)s)"
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--region", action="append", metavar="NAME", help="of this region; may be repeated")
    parser.add_argument("--resource", default="", metavar="PATH", help="of this path, or the hash of a resource")
    parser.add_argument("--url-prefix", default="", help="whose URL, or its path, begins so")
    parser.add_argument("--principal", default="", metavar="ID", help="of this principal")
    parser.add_argument("--reason", default="", help="that ended for this reason")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _filter(arguments: argparse.Namespace) -> WriteFilter:
    names = ("resource", "url_prefix", "principal", "reason")
    return WriteFilter(**{name: getattr(arguments, name) for name in names})


async def run_list(arguments: argparse.Namespace) -> int:
    """Print the writes of every region that is asked."""
    settings = settings_of(arguments)
    found: list[WriteSummary] = []
    more, failures = False, Failures()
    async with opened(settings, arguments.region) as stores:
        desk = WriteDesk(stores, settings)
        order: Any = "oldest" if arguments.oldest else "newest"
        for region in stores:
            with failures.noted():
                page = await desk.find(region, arguments.state, _filter(arguments), order=order, limit=arguments.limit)
                found += page.writes
                more = more or bool(page.cursor)
    if arguments.json:
        say_json({"writes": found, "more": more})
    else:
        say_table(_COLUMNS, [_row(write) for write in found])
        if more:
            complain("there are more; raise --limit")
    return failures.status


def _row(write: WriteSummary) -> Sequence[object]:
    state = f"{write.state} (blocks)" if write.blocks else write.state
    return (
        write.id, state, write.method, write.url, write.tries, write.size, moment(write.accepted),
        write.reason or write.problem,
    )  # fmt: skip


async def run_show(arguments: argparse.Namespace) -> int:
    """Print one write in full."""
    settings = settings_of(arguments)
    async with opened(settings) as stores:
        detail = await WriteDesk(stores, settings).show(arguments.id)
    if arguments.json:
        say_json(detail)
        return OK
    write = detail.summary
    times = {name: moment(getattr(write, name)) for name in ("accepted", "revived", "settled")}
    fields = msgspec.structs.asdict(write) | times
    fields |= {"effect": detail.effect, "superseded by": detail.superseded_by, "waiting": detail.waiting}
    fields |= {"blocked by": detail.blocked_by, "affects": detail.affected, "unreadable": detail.unreadable}
    say_fields(list(fields.items()))
    _say_message("request", detail.headers, detail.body)
    if detail.answer is not None:
        _say_message(f"answer {detail.answer.status}", detail.answer.headers, detail.answer.body)
    return OK


def _say_message(title: str, headers: Sequence[tuple[str, str]], body: Any) -> None:
    say(f"\n{title}")
    for name, value in headers:
        say(f"  {name}: {value}")
    if body is not None and body.size:
        say(f"\n{body.text}" if body.text is not None else f"\n  ({body.size} bytes that are no text)")


async def run_treat(arguments: argparse.Namespace) -> int:
    """Retry or drop writes by their ids, or all that are meant."""
    if bool(arguments.id) == arguments.all:
        complain("give ids, or --all")
        return USAGE
    settings = settings_of(arguments)
    async with opened(settings, arguments.region) as stores:
        desk = WriteDesk(stores, settings)
        if arguments.all:
            return await _treat_all(arguments, desk, list(stores))
        return await _treat_each(arguments, desk)


async def _treat_each(arguments: argparse.Namespace, desk: WriteDesk) -> int:
    treat = desk.retry if arguments.treatment == "retry" else desk.drop
    progress = Progress(arguments.treatment)
    failed: list[tuple[str, str]] = []
    status = OK
    for number, write_id in enumerate(arguments.id, 1):
        try:
            await treat(write_id)
        except (WriteError, RegionUnavailableError) as error:
            failed.append((write_id, str(error)))
            status = status_of_error(error) if len(arguments.id) == 1 else FAILED
        progress(number, len(arguments.id))
    progress.clear()
    return _report(arguments, len(arguments.id), failed, more=False, status=status)


async def _treat_all(arguments: argparse.Namespace, desk: WriteDesk, regions: Sequence[str]) -> int:
    treat = desk.retry_all if arguments.treatment == "retry" else desk.drop_all
    progress, failures = Progress(arguments.treatment), Failures()
    meant, failed, more = 0, list[tuple[str, str]](), False
    for number, region in enumerate(regions, 1):
        with failures.noted():
            treated = await treat(region, arguments.state, _filter(arguments), limit=arguments.limit)
            meant, more = meant + treated.meant, more or treated.more
            failed += treated.failed
        progress(number, len(regions))
    progress.clear()
    return _report(arguments, meant, failed, more=more, status=FAILED if failed else failures.status)


def _report(
    arguments: argparse.Namespace, meant: int, failed: Sequence[tuple[str, str]], *, more: bool, status: int
) -> int:
    done = meant - len(failed)
    if arguments.json:
        say_json({"meant": meant, "done": done, "failed": dict(failed), "more": more})
    else:
        say(f"{done} of {meant} done" + ("; there are more" if more else ""))
    for write_id, problem in failed:
        complain(problem if write_id in problem else f"{write_id}: {problem}")
    return status


class Failures:
    """Regions that could not be asked: each is complained of, and the others go on."""

    def __init__(self) -> None:
        self.status = OK

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Use in a `with` statement around what asks one region."""
        try:
            yield
        except RegionUnavailableError as error:
            complain(str(error))
            self.status = status_of_error(error)
