"""One notice of each kind (and way of a kind), as their producers post them.

docs/notifications.md shows how they read; `python -m tests.unit.notification_samples` writes that part of it anew.
"""

from pathlib import Path
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from daemon.core import notice
from daemon.core.notifications import Language, gather, render
from daemon.marketplaces.registry import MARKETPLACES

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "notifications.md"
MARK: Final = "<!-- written by `python -m tests.unit.notification_samples` -->\n"

DAY: Final = "2026-11-21"
SAMPLES: Final[list[tuple[str, str, str | None, dict[str, Any]]]] = [
    (
        "Reconcile: differences found and healed",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {
            "day": DAY, "method": "read_back", "checked": 5000, "agreed": 4974,
            "opened": [
                {"sku": "A-0001", "class": "marketplace_differs", "ours": 7, "theirs": 3},
                {"sku": "A-0002", "class": "unknown_at_marketplace", "ours": 12, "theirs": None},
                {"sku": "A-0003", "class": "missing_in_listing", "ours": None, "theirs": 5},
            ],
            "still_open": [
                {"sku": "B-0001", "class": "duplicated_id", "ours": 4, "theirs": None,
                 "first_seen": "2026-11-18T16:31:00+00:00", "times_seen": 3},
            ],
            "resolved": [{"sku": "C-0001"}, {"sku": "C-0002"}],
            "contested": [
                {"sku": "D-0001", "class": "marketplace_differs", "ours": 9, "theirs": 99,
                 "first_seen": "2026-11-16T16:31:00+00:00", "times_seen": 5},
            ],
            "more": {"opened": 20}, "unnamed_chunks": [], "unsettled": 1, "healed": 21, "heal": True,
            "incomplete": None, "took_s": 214,
        },
    ),
    (
        "Reconcile: all agree",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {"day": DAY, "method": "read_back", "checked": 5000, "agreed": 5000, "heal": True, "took_s": 96},
    ),
    (
        "Reconcile: some products cannot be compared",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {
            "day": DAY, "method": "read_back", "checked": 4997, "agreed": 4997, "heal": True, "took_s": 97,
            "set_aside": 3, "without_identifier": 2, "without_identifier_in": ["p0001", "p0002"],
        },
    ),
    (
        "Reconcile: products on sale without an identifier",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {
            "day": DAY, "method": "read_back", "checked": 5000, "agreed": 5000, "heal": True, "took_s": 97,
            "without_identifier": 1, "without_identifier_in": ["p0001"],
        },
    ),
    (
        "Reconcile: the marketplace names no SKU",
        notice.RECONCILE_DIGEST,
        "sekorm",
        {
            "day": DAY, "method": "compare", "checked": 800, "agreed": 800, "heal": True, "took_s": 9,
            "unnamed_chunks": [
                {"chunk": 3, "first_sku": "R-0201", "last_sku": "R-0400", "skus": 200, "words": "库存数据不一致"}
            ],
            "healed": 200, "parked": 2,
        },
    ),
    (
        "Reconcile: reading back is refused, the day's changes are sent again",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {"day": DAY, "method": "assert", "checked": 640, "agreed": 0, "healed": 640, "heal": True, "took_s": 31},
    ),
    (
        "Reconcile: a channel in shadow",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {
            "day": DAY, "method": "read_back", "checked": 4980, "agreed": 4979, "unsettled": 20, "heal": False,
            "is_shadow": True, "would_heal": 1, "healed": 0, "took_s": 96,
            "opened": [{"sku": "A-0001", "class": "marketplace_differs", "ours": 7, "theirs": 3}],
        },
    ),
    (
        "Reconcile: incomplete",
        notice.RECONCILE_DIGEST,
        "ymatou",
        {
            "day": DAY, "method": "read_back", "checked": 3200, "agreed": 3200, "heal": True, "took_s": 400,
            "incomplete": "page 17 of 25 failed 5 times: HTTP 502",
        },
    ),
    (
        "Reconcile: late",
        notice.RECONCILE_MISSED,
        "sekorm",
        {"day": DAY, "due_at": "2026-11-21T16:30:00+00:00", "reason": "it has begun and is not over"},
    ),
    (
        "Channel trouble",
        notice.CHANNEL_TROUBLE,
        "sekorm",
        {
            "trouble": "address_not_allowed", "reason": "-1: ip invalid", "since": "2026-11-22T02:03:00+00:00",
            "advice": "give Sekorm the daemon's egress address (that of the NAT gateway, if there is one) "
            "for their list",
        },
    ),
    (
        "Channel recovered",
        notice.CHANNEL_RECOVERED,
        "sekorm",
        {"trouble": "address_not_allowed", "since": "2026-11-22T02:03:00+00:00", "minutes": 47},
    ),
    (
        "A channel waits to go live",
        notice.CHANNEL_WAITS,
        "ymatou",
        {"since": "2026-11-22T02:03:00+00:00", "listed": 5000},
    ),
    (
        "Parked SKUs",
        notice.PARKED_SUMMARY,
        "ymatou",
        {
            "parked": 14,
            "new": [
                {"sku": "A-0007", "reason": "outer_sku_id is missing; the listing has to give one"},
                {"sku": "A-0008", "reason": "refused: 商品不存在"},
            ],
            "more": 1,
        },
    ),
    (
        "The guard asks: many zeroes",
        notice.GUARD_QUESTION,
        "sekorm",
        {
            "cause": "zeroes", "held": 4980, "zeroes": 4980, "gone": 0, "moved": 0, "skus": 5000, "share": 0.996,
            "rows_before": 5000, "rows_now": 5000,
            "examples": [{"sku": "A-0001", "was": 7, "now": 0}, {"sku": "A-0002", "was": 12, "now": 0}],
            "command": "stockrelay release sekorm",
        },
    ),
    (
        "The guard asks: the listing shrank",
        notice.GUARD_QUESTION,
        "ymatou",
        {
            "cause": "rows", "held": 4710, "zeroes": 4710, "gone": 4700, "moved": 0, "skus": 5000, "share": 0.942,
            "rows_before": 5000, "rows_now": 300, "examples": [{"sku": "A-0001", "was": 7, "now": None}],
            "command": "stockrelay release ymatou",
        },
    ),
    (
        "The guard asks: numbers times ten",
        notice.GUARD_QUESTION,
        "sekorm",
        {
            "cause": "moves", "held": 4910, "zeroes": 20, "gone": 0, "moved": 4280, "risen": 610, "skus": 5000,
            "share": 0.86, "rows_before": 5000, "rows_now": 5000,
            "examples": [{"sku": "A-0001", "was": 700, "now": 7000}],
            "command": "stockrelay release sekorm",
        },
    ),
    (
        "The guard asks: the first filling is mostly zero",
        notice.GUARD_QUESTION,
        "ymatou",
        {
            "cause": "first", "held": 2001, "zeroes": 2001, "gone": 0, "moved": 0, "skus": 2001, "share": 1.0,
            "rows_before": 2001, "rows_now": 2001, "examples": [{"sku": "A-0001", "was": None, "now": 0}],
            "command": "stockrelay release ymatou",
        },
    ),
    (
        "The guard asks: new SKUs without stock",
        notice.GUARD_QUESTION,
        "ymatou",
        {
            "cause": "new", "held": 600, "zeroes": 600, "gone": 0, "moved": 0, "skus": 1000, "share": 0.6,
            "rows_before": 1600, "rows_now": 1600, "examples": [{"sku": "N-0001", "was": None, "now": 0}],
            "command": "stockrelay release ymatou",
        },
    ),
    (
        "The guard: released by command",
        notice.GUARD_RELEASED,
        "sekorm",
        {"numbers": 4980, "sent": 4980, "by": "command"},
    ),
    (
        "The guard: the data recovered",
        notice.GUARD_RELEASED,
        "sekorm",
        {"numbers": 4975, "sent": 5, "by": "recovery"},
    ),
    (
        "Capture: a trigger is switched off",
        notice.CAPTURE_FAILED,
        None,
        {
            "check": "triggers", "subject": "erp.stock", "is_lossy": True, "since": "2026-11-22T02:03:00+00:00",
            "found": "stockrelay_update on erp.stock: disabled",
            "advice": "as the table's owner: ALTER TABLE erp.stock ENABLE ALWAYS TRIGGER stockrelay_update;",
        },
    ),
    (
        "Capture: the doorbell is not heard",
        notice.CAPTURE_FAILED,
        None,
        {
            "check": "canary", "subject": "listener of relay-0/1/6f3a", "is_lossy": False,
            "since": "2026-11-22T02:03:00+00:00",
            "found": "the connection that listens is down: changes are found up to 1 s late",
            "advice": "see whether notifications arrive: `stockrelay check`; database.listen_dsn leads straight to the "
            "primary",
        },
    ),
    (
        "Capture: over",
        notice.CAPTURE_RECOVERED,
        None,
        {"check": "triggers", "subject": "erp.stock", "is_lossy": True, "since": "2026-11-22T02:03:00+00:00"},
    ),
    (
        "A notice could not be delivered",
        notice.NOTIFICATION_FAILED,
        "ymatou",
        {
            "kind": "guard_question", "since": "2026-11-21T02:03:00+00:00",
            "reason": "notify.urls[0] dingtalk: the receiver answers 310000: keywords not in content",
        },
    ),
]  # fmt: skip


LANGUAGES: Final = get_args(Language)
TITLES: Final = {language: {str(s.name): s.titles[language] for s in MARKETPLACES} for language in LANGUAGES}


def messages() -> str:
    """How every sample reads in both languages."""
    parts = []
    for name, kind, channel, data in SAMPLES:
        parts.append(f"### {name}\n")
        for language in LANGUAGES:
            titles = TITLES[language]
            message = gather(
                [render(kind, channel, data, language, ZoneInfo("Asia/Shanghai"), titles)], language
            )
            parts.append(f"```text\n{message.title}\n\n{message.body}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    before, mark, _ = DOCUMENT.read_text(encoding="utf-8").partition(MARK)
    DOCUMENT.write_text(f"{before}{mark}\n{messages()}", encoding="utf-8")
