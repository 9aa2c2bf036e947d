"""What is redrawn in place fits its terminal, whatever its size."""

import io
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from daemon.board import Block, Board
from daemon.commands.watch import Order, StatusView
from tests.unit.test_cli import ANSWER, BUSY, QUIET

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
LONG = "a-host-with-a-long-name.example.internal/12345/0123456789abcdef"


def drawn(what: RenderableType, width: int, height: int = 200) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def view(**channels: object) -> StatusView:
    capture: dict[str, object] = {"checked_at": None, "findings": []}
    answer = {**ANSWER, "unread_changes": 0, "capture": capture, "channels": channels}
    return StatusView(answer, UTC, NOW)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("name", ["sekorm", "深圳旗舰店"])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width: int, name: str) -> None:
    channel = {**BUSY, "owners": [{"owner": LONG, "slots": 16, "since": NOW}]}
    lines = drawn(view(**{name: channel, "ymatou": QUIET}).shown(has_keys=True), width)
    assert max(map(cell_len, lines)) <= width
    text = "".join("".join(lines).split())
    for words in (LONG, "since 06:58:00 (2 min ago) by ann: stocktaking", "60 of 60 fell", "check NTP", name):
        assert "".join(words.split()) in text, words


def test_channels_stand_beside_each_other_where_they_fit() -> None:
    blocks = [Block("one", {"SKUs": "5", "backlog": "3"}), Block("two", {"SKUs": "70", "only": "x"})]
    assert [line.rstrip() for line in drawn(Board(blocks), 80)] == [
        "         one  two",
        "SKUs     5    70",
        "backlog  3",
        "only          x",
    ]
    assert [line.rstrip() for line in drawn(Board(blocks), 15)][:3] == ["one", "SKUs:", "  5"]


def test_a_low_window_says_how_much_is_left_out_and_keeps_the_keys() -> None:
    shown = view(sekorm=BUSY, ymatou=QUIET).shown(has_keys=True)
    everything, few = drawn(shown, 200), drawn(shown, 200, height=10)
    assert len(few) == 10
    assert few[:8] == everything[:8]
    assert few[8] == f"... and {len(everything) - 9} more lines: make the window higher"
    assert few[9] == everything[-1]


def test_channels_are_sorted_by_what_s_goes_through() -> None:
    channels = {"b": {**QUIET, "parked": 9}, "a": QUIET, "c": {**QUIET, "backlog": 2, "oldest_s": 5.0}}
    found, order = [], Order.NAME
    for _ in Order:
        found.append("".join(order.sorted(channels)))
        order = order.next
    assert (found, order) == (["abc", "cab", "cab", "bac"], Order.NAME)


def test_a_status_that_can_not_be_read_is_shown_with_the_last_one() -> None:
    lost = view(sekorm=QUIET)
    lost.problem, lost.lost_at = "no \x1b[2Jroute", NOW
    lines = drawn(lost.shown(has_keys=False), 200)
    assert lines[0] == "not read since 07:00:00 (0.0 s ago): no \\u001b[2Jroute; what follows is of before"
    assert lines[-1] == "Ctrl-C ends"
