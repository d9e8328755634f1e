"""How the next policy is made: rounds, what is watched in them, and their schedule."""

from training.models.rounds import (
    AT_WORK,
    LIMITS,
    UNDECIDED,
    Alarm,
    AlarmLimits,
    Round,
    RoundMetric,
    RoundMetricQuerySet,
    RoundQuerySet,
    Schedule,
    State,
    Watched,
)

__all__ = [
    "AT_WORK",
    "LIMITS",
    "UNDECIDED",
    "Alarm",
    "AlarmLimits",
    "Round",
    "RoundMetric",
    "RoundMetricQuerySet",
    "RoundQuerySet",
    "Schedule",
    "State",
    "Watched",
]
