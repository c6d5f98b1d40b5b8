"""Cron expressions: what is due when, and what is refused (SCHED-01)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from minion_core.cron import ALIASES, next_run

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01"),
        ("* * * * *", "2026-01-01 00:00:59.999999", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01 00:50", "2026-01-01 01:00"),
        ("10-20/5 3 * * *", "2026-01-01 03:10", "2026-01-01 03:15"),
        ("0 0,12 * * *", "2026-01-01 00:00", "2026-01-01 12:00"),
        ("0 0 * jan,JUL *", "2026-02-01", "2026-07-01"),
        ("0 0 * * sun", "2026-01-01", "2026-01-04"),
        ("0 0 * * 7", "2026-01-01", "2026-01-04"),
        ("0 0 * * mon-fri", "2026-01-03", "2026-01-05"),
        ("0 0 29 2 *", "2026-01-01", "2028-02-29"),
        ("@hourly", "2026-01-01 00:00", "2026-01-01 01:00"),
        ("@Daily", "2026-01-01 00:00", "2026-01-02"),
        ("@midnight", "2026-01-01 00:00", "2026-01-02"),
        ("@weekly", "2026-01-01 00:00", "2026-01-04"),
        ("@monthly", "2026-01-01 00:00", "2026-02-01"),
        ("@yearly", "2026-01-01 00:00", "2027-01-01"),
        ("@annually", "2026-01-01 00:00", "2027-01-01"),
        ("  0   0 * * *  ", "2026-01-01 00:00", "2026-01-02"),
    ],
)
def test_next_run(cron, after, due):
    assert next_run(cron, at(after)) == at(due)
    assert next_run(cron, at(after)).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("0 0 13 * fri", "2026-01-02"),  # both restricted: either will do
        ("0 0 3 * fri", "2026-01-02"),
        ("0 0 13 * *", "2026-01-13"),
        ("0 0 * * fri", "2026-01-02"),
        ("0 0 */2 * fri", "2026-01-09"),  # begins with a star: both must hold
    ],
)
def test_vixies_rule(cron, due):
    assert next_run(cron, at("2026-01-01 12:00")) == at(due)


def test_time_zones():
    # 03:00 in Berlin is 02:00 UTC in winter and 01:00 in summer.
    assert next_run("0 3 * * *", at("2026-01-01"), "Europe/Berlin") == at("2026-01-01 02:00")
    assert next_run("0 3 * * *", at("2026-07-01"), "Europe/Berlin") == at("2026-07-01 01:00")


def test_a_local_time_that_is_skipped_runs_right_after():
    # 2026-03-29: 02:00 CET becomes 03:00 CEST.
    due = next_run("30 2 * * *", datetime(2026, 3, 29, 0, 0, tzinfo=BERLIN), "Europe/Berlin")
    assert due == at("2026-03-29 01:00")
    assert next_run("30 2 * * *", due, "Europe/Berlin") == at("2026-03-30 00:30")


def test_a_local_time_that_comes_twice_runs_once():
    # 2026-10-25: 03:00 CEST becomes 02:00 CET.
    first = next_run("30 2 * * *", datetime(2026, 10, 25, 0, 0, tzinfo=BERLIN), "Europe/Berlin")
    assert first == at("2026-10-25 00:30")
    second = next_run("30 2 * * *", first, "Europe/Berlin")
    assert second == at("2026-10-26 01:30")
    # Asked within the second of the two hours, the run of the first is not offered again.
    assert next_run("45 2 * * *", at("2026-10-25 01:10"), "Europe/Berlin") == at("2026-10-26 01:45")


@pytest.mark.parametrize("cron", ["* * * * *", "*/7 */3 * * *", "17 4 1,15 * mon"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
def test_the_next_run_is_always_ahead(cron, zone):
    moment = at("2026-03-28 12:34:56.5")
    for _ in range(200):
        following = next_run(cron, moment, zone)
        assert following > moment
        moment = following


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "x * * * *",
        "@reboot",
        "@",
        "0 0 30 2 *",
        "-1 * * * *",
        "1,,2 * * * *",
    ],
)
def test_bad_expressions_are_refused(cron):
    with pytest.raises(ValueError, match="bad cron expression"):
        next_run(cron, at("2026-01-01"))


def test_an_expression_is_text():
    with pytest.raises(TypeError, match="must be text"):
        next_run(5, at("2026-01-01"))


def test_the_error_names_the_aliases():
    with pytest.raises(ValueError, match="@hourly") as refused:
        next_run("@reboot", at("2026-01-01"))
    assert all(alias in str(refused.value) for alias in ALIASES)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../../etc/passwd", "CET/"])
def test_unknown_time_zones_are_refused(zone):
    with pytest.raises(ValueError, match="unknown time zone"):
        next_run("@daily", at("2026-01-01"), zone)
