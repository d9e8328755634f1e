"""When a schedule looks next, by the clock of the installation (STORYLOOP_TIME_ZONE).

Summer time: a time that a day lacks is taken by the offset before the clocks changed, so 02:30 is then 03:30 on
the new clock; a time that a day has twice counts once, the first time.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils import timezone

from training.models import Schedule, When


def next_time(schedule: Schedule, after: datetime, zone: ZoneInfo | None = None) -> datetime:
    """The first time after `after` at which the schedule looks."""
    if schedule.when == When.EVERY or schedule.at is None:
        return after + timedelta(minutes=schedule.every_minutes)
    zone = zone or ZoneInfo(timezone.get_default_timezone_name())
    today = after.astimezone(zone).date()
    days = (today + timedelta(days=number) for number in range(9))  # the day a week from now, and clocks that change
    times = (
        datetime.combine(day, schedule.at, tzinfo=zone).astimezone(UTC)  # fold=0: the first of two
        for day in days
        if day.isoweekday() in schedule.weekdays
    )
    return next(time for time in times if time > after)


def first_time(schedule: Schedule, now: datetime) -> datetime:
    """After it was changed: at its time, or so many minutes after it has looked last, at once if it never has."""
    if schedule.when == When.EVERY:
        return max(next_time(schedule, schedule.looked_at), now) if schedule.looked_at else now
    return next_time(schedule, now)
