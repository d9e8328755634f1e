"""What people think of stories: who judges, what is before them, what they answered."""

from annotate.models.answers import (
    CriterionWinner,
    Improvement,
    Judgement,
    JudgementQuerySet,
    Passage,
    Rank,
    Revision,
    Verdict,
)
from annotate.models.campaign import Campaign, Criterion, Example, PracticeAnswer
from annotate.models.data import (
    Export,
    ExportState,
    Format,
    ImportedPair,
    ImportedPairQuerySet,
    Layout,
    Origin,
    OriginQuerySet,
)
from annotate.models.listening import (
    AgeBand,
    Heard,
    Listening,
    ListeningSession,
    Picture,
    Reader,
    Understood,
)
from annotate.models.people import Audience, Expert
from annotate.models.queue import Assignment, Comparison, Draft, Kind, Place, Purpose
from annotate.models.reports import Gold, Report

__all__ = [
    "AgeBand",
    "Assignment",
    "Audience",
    "Campaign",
    "Comparison",
    "Criterion",
    "CriterionWinner",
    "Draft",
    "Example",
    "Expert",
    "Export",
    "ExportState",
    "Format",
    "Gold",
    "Heard",
    "ImportedPair",
    "ImportedPairQuerySet",
    "Improvement",
    "Judgement",
    "JudgementQuerySet",
    "Kind",
    "Layout",
    "Listening",
    "ListeningSession",
    "Origin",
    "OriginQuerySet",
    "Passage",
    "Picture",
    "Place",
    "PracticeAnswer",
    "Purpose",
    "Rank",
    "Reader",
    "Report",
    "Revision",
    "Understood",
    "Verdict",
]
