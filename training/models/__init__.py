"""How the next policy is made: rounds, what is watched in them, and their schedule."""

from training.changes import PolicyChange
from training.models.notices import TOLD, Channel, Delivery, Destination, Event, Sending
from training.models.rounds import (
    AT_WORK,
    LIMITS,
    REFERENCES,
    UNDECIDED,
    Alarm,
    AlarmLimits,
    Round,
    RoundMetric,
    RoundMetricQuerySet,
    RoundQuerySet,
    State,
    Watched,
)
from training.models.schedules import (
    WEEKDAYS,
    Act,
    AgreementBy,
    PromotionRule,
    Proposal,
    Schedule,
    SettingsOf,
    When,
)

__all__ = [
    "AT_WORK",
    "LIMITS",
    "REFERENCES",
    "TOLD",
    "UNDECIDED",
    "WEEKDAYS",
    "Act",
    "AgreementBy",
    "Alarm",
    "AlarmLimits",
    "Channel",
    "Delivery",
    "Destination",
    "Event",
    "PolicyChange",
    "PromotionRule",
    "Proposal",
    "Round",
    "RoundMetric",
    "RoundMetricQuerySet",
    "RoundQuerySet",
    "Schedule",
    "Sending",
    "SettingsOf",
    "State",
    "Watched",
    "When",
]
