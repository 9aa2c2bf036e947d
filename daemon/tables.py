"""Prints the answers of commands: tables on a terminal, aligned plain text elsewhere."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.core.finding import Finding, Verdict
from daemon.core.operations import Operation
from daemon.core.times import TimeFormat, span
from daemon.logs import in_colour, visible

_STYLES: Final = {"passed": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def print_checks(results: Sequence[Finding]) -> None:
    """One row for each check, then the number of each verdict."""
    print_rows(
        [
            {"check": r.check, "result": r.verdict.value, "found": r.found, "what to do": r.advice}
            for r in results
        ]
    )
    counts = {verdict: sum(r.verdict is verdict for r in results) for verdict in Verdict}
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))


def bold(text: str) -> str:
    """A heading, for standard output: heavier on a terminal."""
    return click.style(text, bold=True) if in_colour(sys.stdout) else text


def print_answer(answer: Mapping[str, Any]) -> None:
    """Any JSON-able answer: single values as lines; lists of objects, and objects by name, as tables."""
    for name, value in answer.items():
        rows = _rows(value)
        if rows:
            click.echo(f"\n{name}:")
            print_rows(rows)
        elif not isinstance(value, Mapping | list):
            click.echo(f"{name}: {_cell(value)}")
        else:
            click.echo(f"{name}: {_cell(value) if value else 'none'}")


def print_status(answer: Mapping[str, Any], times: TimeFormat) -> None:
    """The status: a column for each channel, a row for each fact; then what an operator has to do."""
    for line in status_heading(answer, times):
        click.echo(f"{line}\n")
    _print_channels(answer["channels"], times)
    for name, channel in answer["channels"].items():
        for line in channel_tasks(name, channel):
            click.echo(f"\n{line}")
        _print_parked(name, channel)
    operations = list(operation_lines(answer.get("operations", ()), times))
    if operations:
        click.echo("\n" + "\n".join(operations))


def status_heading(answer: Mapping[str, Any], times: TimeFormat) -> Iterator[str]:
    """What concerns all channels, a paragraph each."""
    compared, looked = answer["resynced_at"], answer["capture"]["checked_at"]
    yield (
        f"{times.full(times.now)}; everything compared last: "
        + ("not yet" if compared is None else times.at(compared))
        + f"; changes not read yet: {answer['unread_changes']}\n"
        + ("capture: something is wrong" if answer["capture"]["findings"] else "capture: nothing wrong")
        + "; looked at last: "
        + ("not yet" if looked is None else times.at(looked))
    )
    for found in answer["capture"]["findings"]:
        where = f" ({visible(found['subject'])})" if found["subject"] else ""
        yield (
            f"capture, {found['check']}{where} since {times.at(found['since'])}: "
            f"{visible(found['found'])}\n  what to do: {visible(found['advice'])}"
        )
    if different := answer["replicas"]["differ_in"]:
        yield (
            f"replicas are configured differently in {', '.join(different)}: "
            f"{', '.join(map(visible, answer['replicas']['holders']))}\n"
            "  what to do: give all of them the same configuration, then restart them or send SIGHUP"
        )


def operation_lines(operations: Sequence[Mapping[str, Any]], times: TimeFormat) -> Iterator[str]:
    """What operators did last."""
    if operations:
        yield "last operations:"
    for one in operations:
        channel = f"{one['channel']}: " if one["channel"] else ""
        yield f"  {times.at(one['at'])}  {channel}{visible(Operation(**one).words())}"


def _print_channels(channels: Mapping[str, Mapping[str, Any]], times: TimeFormat) -> None:
    rows = {name: channel_facts(channel, times) for name, channel in channels.items()}
    names = list(dict.fromkeys(name for facts in rows.values() for name in facts))
    print_rows(
        [{"": name, **{channel: facts.get(name) for channel, facts in rows.items()}} for name in names]
    )
    if any(len(channel["owners"]) > 1 for channel in channels.values()):
        click.echo("\nowners:")
        print_rows(
            [
                {
                    "channel": name,
                    **one,
                    "since": one["since"] and times.at(one["since"]),
                }
                for name, channel in channels.items()
                for one in channel["owners"]
            ]
        )


def channel_tasks(name: str, channel: Mapping[str, Any]) -> Iterator[str]:
    """What an operator has to do, beside the parked SKUs."""
    if channel["live"] is None:
        yield (
            f"{name} is new to this database, and nothing is sent to it yet\n"
            f"  what to do: look at `stockrelay go-live {name} --dry-run`, then run `stockrelay go-live {name}`"
        )
    if trouble := channel["trouble"]:
        yield f"{name}: {visible(trouble['reason'])}\n  what to do: {visible(trouble['advice'])}"
    if channel["held_since"] is not None:
        yield (
            f"{name}: {channel['held']} numbers are held: {channel['held_because']}\n"
            f"  what to do: put the ERP's data right, or, if they are true, run `stockrelay release {name}`"
        )


def _print_parked(name: str, channel: Mapping[str, Any]) -> None:
    if channel["parked_skus"]:
        click.echo(f"\n{parked_heading(name, channel)}")
        print_rows(channel["parked_skus"])


def parked_heading(name: str, channel: Mapping[str, Any]) -> str:
    """Say how many more are parked than the status lists."""
    more = channel["parked"] - len(channel["parked_skus"])
    return f"{name}, parked" + (f" (and {more} more: `stockrelay parked list`):" if more > 0 else ":")


def channel_facts(channel: Mapping[str, Any], times: TimeFormat) -> dict[str, str]:
    """One channel's facts by their names, in the order in which they are shown."""
    at = times.at
    paused, trouble, sync, last = (channel[name] for name in ("paused", "trouble", "sync", "reconciled"))
    oldest = channel["oldest_s"]
    owners = channel["owners"]
    rows = {
        "owner": _owner(owners, channel["slots_without_owner"]),
        "owned since": _since(owners, times),
        "sending": _sending(channel, times),
        "paused": "no",
        "trouble": "no" if trouble is None else f"{trouble['what']} since {at(trouble['since'])}",
        "SKUs": str(channel["skus"]) + _chosen(channel.get("only")),
        "backlog": str(channel["backlog"]),
        "oldest change": "-" if oldest is None else f"{span(timedelta(seconds=oldest))} old",
        "in shadow": str(channel["shadowed"]),
        "in flight": str(channel["in_flight"]),
        "in doubt": str(channel["doubt"]),
        "held": str(channel["held"]),
        "guard": channel["guard"],
        "parked": str(channel["parked"])
        + (f", and {channel['discarded']} discarded" if channel["discarded"] else "")
        + (f", and {channel['refused']} can't be followed" if channel["refused"] else ""),
        "sync": "no"
        if sync is None
        else f"{sync['left']} of {sync['total']} left, since {at(sync['since'])}",
        "exposure today": _exposure(channel.get("exposure_today")),
        "last reconcile": "none yet",
        "open differences": str(channel["open_differences"]),
    }
    if channel["held_since"] is not None:
        rows["held"] += f" since {at(channel['held_since'])}"
    if paused is not None:
        reason = f": {paused['reason']}" if paused["reason"] else ""
        rows["paused"] = f"since {at(paused['since'])} by {paused['by']}{reason}"
    if last is not None:
        how = (last["method"] or "").replace("_", " ")
        rows["last reconcile"] = f"{last['day']} ({how}), {last['state']} {at(last['ended_at'])}"
    return rows


def _exposure(exposure: Mapping[str, Mapping[str, float]] | None) -> str:
    """Say today's unit-seconds; see docs/exposure.md."""
    if exposure is None:
        return "-"
    over, lost = (sum(exposure[kind].values()) for kind in ("over", "lost"))
    return f"over {over:,.1f}, lost {lost:,.1f}"


def _chosen(only: Mapping[str, Any] | None) -> str:
    """Say that a channel sends a part of its listing."""
    if only is None:
        return ""
    named = "" if only["skus"] is None else f" {only['skus']} named"
    where = "" if only["where"] is None else f" where {visible(' '.join(only['where'].split()))}"
    return f", only{named}{where}"


def _sending(channel: Mapping[str, Any], times: TimeFormat) -> str:
    if channel["live"] is None:
        return "not yet: waits for go-live"
    if channel["mode"] == "shadow":
        return 'no: mode = "shadow"'
    return f"since {times.at(channel['live']['since'])}"


def _owner(owners: Sequence[Mapping[str, Any]], free: int) -> str:
    if not owners:
        return "none: no daemon runs"
    names = owners[0]["owner"] if len(owners) == 1 else f"{len(owners)} replicas"
    return f"{names}; {free} slots have none" if free else names


def _since(owners: Sequence[Mapping[str, Any]], times: TimeFormat) -> str:
    taken = [one["since"] for one in owners if one["since"] is not None]
    return times.at(max(taken)) if taken else "-"


def print_settings(answer: Mapping[str, Any], above: str = "") -> None:
    """A line for each key, as it is called in messages: `channels.tokyo.rate_per_s = 20.0`."""
    for name, value in answer.items():
        if isinstance(value, Mapping):
            print_settings(value, f"{above}{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                print_settings(item, f"{above}{name}[{index}].")
        elif value is not None:
            click.echo(f"{above}{name} = {visible(json.dumps(value, ensure_ascii=False))}")


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table whose columns are the keys of all rows, in the order they first occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        table = Table(*columns, header_style="bold")
        for row in cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    for row in [columns, *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rows(value: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return list(value)
    if isinstance(value, Mapping) and value and all(isinstance(item, Mapping) for item in value.values()):
        return [{"": name, **item} for name, item in value.items()]
    if isinstance(value, Mapping) and value:
        return [{"": name, "value": item} for name, item in value.items()]
    return []


def _cell(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case str():
            return visible(value)
    return visible(json.dumps(value, ensure_ascii=False, default=str))
