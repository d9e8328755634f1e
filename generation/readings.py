"""Which judge model reads stories, and what it has said of them. The rules need none of this."""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from generation.detectors import (
    Judge,
    Quality,
    Reading,
    Share,
    Told,
    detect,
    judge_name,
    labelled_texts,
    labels_hash,
    quality_of,
)
from generation.engines.values import Engine, WrongWeights
from generation.models import JudgeModel, LabelledReading, Policy, Story, StoryReading

MOST_STORIES = 400  # the newest finished ones of a policy are read


@dataclass(frozen=True)
class Judged:
    """What a judge has said of a policy's newest stories. structure, message: those that have it, of the readable."""

    policy: Policy
    stories: int  # to be read
    read: int
    unreadable: int  # stories with an answer that could not be read
    structure: Share
    message: Share

    @property
    def unread(self) -> int:
        return self.stories - self.read


def judge_model() -> JudgeModel | None:
    return JudgeModel.objects.select_related("policy").first()


@transaction.atomic
def choose_judge(*, policy: Policy | None) -> None:
    """Have `policy` read stories from now on; None: the rules only. What was read is kept."""
    if policy is None:
        JudgeModel.objects.all().delete()
    else:
        JudgeModel.objects.update_or_create(pk=1, defaults={"policy": policy, "message": ""})


def note(*, judge: Policy, message: str) -> None:
    """Say on the page why a reading failed, if `judge` is still the one chosen; "" takes it back."""
    JudgeModel.objects.filter(policy=judge).update(message=message)


def read_stories(
    *,
    policy: Policy,
    judge: Policy,
    engine: Engine,
    accepted: frozenset[str],
    on_progress: Callable[[], None] = lambda: None,
) -> Judged:
    """Have `judge` read the newest stories of `policy` that it has not read; before them, once, the labelled ones.

    `on_progress` is called for each. Each reading is stored as it comes: one that is interrupted goes on
    where it stopped. Raises WrongWeights if the engine holds other weights than the judge's, EngineError
    if it cannot write.
    """
    if engine.weights_hash not in accepted:
        raise WrongWeights(
            _("The weights of %(policy)s have changed since it was registered. Nothing was read.")
            % {"policy": judge.name}
        )
    detector = Judge(engine, judge.weights_hash)
    _read_labelled(judge, detector)
    waiting = list(_newest(policy).exclude(readings__detector=detector.name).select_related("prompt"))
    for number, reading in detector.read(Told(story.text, story.prompt.language) for story in waiting):
        StoryReading.objects.bulk_create(
            [
                StoryReading(
                    story=waiting[number],
                    detector=detector.name,
                    structure=reading.structure,
                    message=reading.message,
                    said=reading.said,
                )
            ],
            ignore_conflicts=True,  # two that read at the same time
        )
        on_progress()
    note(judge=judge, message="")
    return judged(policy, judge)


def judged(policy: Policy, judge: Policy) -> Judged:
    """How far `judge` is with the newest stories of `policy`, and what it said of them."""
    newest = _newest(policy).values("pk")
    readings = StoryReading.objects.filter(detector=judge_name(judge.weights_hash), story__in=newest)
    counts = readings.aggregate(
        read=Count("pk"),
        unreadable=Count("pk", filter=Q(structure=None) | Q(message=None)),
        structure_n=Count("structure"),
        structure=Count("pk", filter=Q(structure=True)),
        message_n=Count("message"),
        message=Count("pk", filter=Q(message=True)),
    )
    return Judged(
        policy=policy,
        stories=newest.count(),
        read=counts["read"],
        unreadable=counts["unreadable"],
        structure=Share(counts["structure"], counts["structure_n"]),
        message=Share(counts["message"], counts["message_n"]),
    )


def judge_quality(judge: Policy) -> Quality | None:
    """How the judge does on the labelled stories; None before it has read them."""
    found = LabelledReading.objects.filter(detector=judge_name(judge.weights_hash), labels=labels_hash()).first()
    return quality_of([Reading(structure, message) for structure, message in found.readings]) if found else None


def _read_labelled(judge: Policy, detector: Judge) -> None:
    if judge_quality(judge) is None:
        found = [[reading.structure, reading.message] for reading in detect(labelled_texts(), detector)]
        LabelledReading.objects.update_or_create(
            detector=detector.name, labels=labels_hash(), defaults={"readings": found}
        )


def _newest(policy: Policy) -> QuerySet[Story]:
    ids = list(policy.stories.finished().order_by("-pk").values_list("pk", flat=True)[:MOST_STORIES])
    return Story.objects.filter(pk__in=ids).order_by("-pk")
