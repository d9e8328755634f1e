"""The calibration set: examples whose best and worst are known, and what experts say of them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Campaign, Example, Expert, PracticeAnswer
from generation.models import Language

SHIPPED_EXAMPLES = Path(__file__).parent / "data" / "examples.jsonl"
TEXTS = ("key", "language", "prompt", "age_band", "explanation_en", "explanation_zh")
FIELDS = (*TEXTS, "stories", "best", "worst", "sort_order")
MAX_SORT_ORDER = 32767
Row = dict[str, Any]


class BadPractice(ValueError):
    """The answer cannot be kept as it stands; the message says to the expert what to change."""


class BadExamples(ValueError):
    """The file cannot be imported: `faults` says why, a line each. Nothing was imported."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Imported:
    """How many examples are new, and how many were known already (by key) and are now as in the file."""

    new: int
    updated: int


def needs_practice(expert: Expert, campaign: Campaign) -> bool:
    """Whether the calibration set comes before this expert's next comparison."""
    if not campaign.practice or expert.practised_at or expert.simulated:
        return False
    return _unanswered(expert).exists()


def next_example(expert: Expert) -> Example | None:
    return _unanswered(expert).first()


def answers_of(expert: Expert) -> QuerySet[PracticeAnswer]:
    """What the expert has answered of today's set, in the order of the set."""
    order = [f"example__{name}" for name in ("language", "sort_order", "pk")]
    today = Example.objects.for_expert(expert)
    return PracticeAnswer.objects.filter(expert=expert, example__in=today).select_related("example").order_by(*order)


@transaction.atomic
def answer_example(*, expert: Expert, example: Example, best: int | None, worst: int | None) -> PracticeAnswer:
    """Keep the expert's first answer to `example`. As in real work, the worst may be left open."""
    shown = range(1, len(example.stories) + 1)
    if best is None or best not in shown or (worst is not None and worst not in shown):
        raise BadPractice(_("Choose the best story first."))
    if best == worst:
        raise BadPractice(_("One story cannot be both the best and the worst."))
    # two tabs with the last two examples wait for each other, so that one of them sees that none is left
    Expert.objects.select_for_update(no_key=True).get(pk=expert.pk)
    answer = PracticeAnswer.objects.get_or_create(
        expert=expert, example=example, defaults={"best": best, "worst": worst}
    )[0]
    if not expert.practised_at and next_example(expert) is None:
        expert.practised_at = timezone.now()
        expert.save(update_fields=["practised_at"])
    return answer


def guidelines_text(campaign: Campaign, language_code: str) -> str:
    """The guidelines that an admin wrote in this language; "" stands for those that the house ships."""
    return (campaign.guidelines_zh if _is_chinese(language_code) else campaign.guidelines_en).strip()


def explanation_of(example: Example, language_code: str) -> str:
    return example.explanation_zh if _is_chinese(language_code) else example.explanation_en


def ensure_shipped_examples() -> int:
    """Import the shipped set into an installation without examples. Returns how many are new."""
    return 0 if Example.objects.exists() else import_examples(SHIPPED_EXAMPLES).new


def import_examples(path: Path) -> Imported:
    """Import a JSONL file of examples: all lines or none. Raises BadExamples with every fault found."""
    rows: list[Row] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    for line, row, torn in _rows(path):
        fault = torn or _fault(row)
        if not fault and row["key"] in seen:
            fault = f"the same key as line {seen[row['key']]}: give each example a key of its own"
        if fault:
            faults.append(f"line {line}: {fault}")
            continue
        seen[row["key"]] = line
        rows.append({"sort_order": len(rows) + 1, **row})
    if faults:
        raise BadExamples(faults)
    if not rows:
        raise BadExamples([f"{path.name} holds no examples: write one JSON object on each line."])
    return _store(rows)


@transaction.atomic
def _store(rows: list[Row]) -> Imported:
    made = [Example.objects.update_or_create(key=row["key"], defaults=row)[1] for row in rows]
    return Imported(new=made.count(True), updated=made.count(False))


def _unanswered(expert: Expert) -> QuerySet[Example]:
    return Example.objects.for_expert(expert).exclude(answers__expert=expert)


def _is_chinese(language_code: str) -> bool:
    return language_code.startswith("zh")


def _rows(path: Path) -> Iterator[tuple[int, Row, str]]:
    """(line, row, fault) for each line; a fault is "" or why the line is no row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadExamples([f"{path.name} is not UTF-8 text (byte {error.start}): save it as UTF-8."]) from error
    except OSError as error:
        raise BadExamples([f"{path} cannot be read: {error.strerror}. Check the path."]) from error
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except ValueError as error:
            yield line, {}, f"not valid JSON ({error}): write one whole JSON object on each line"
            continue
        yield (line, row, "") if isinstance(row, dict) else (line, {}, "not a JSON object: begin the line with {")


def _fault(row: Row) -> str:
    """Why `row` is no example and what to do, or ""."""
    return next((fault for check in CHECKS if (fault := check(row))), "")


def _names_fault(row: Row) -> str:
    if unknown := set(row) - set(FIELDS):
        return f"unknown field {', '.join(sorted(unknown))}: known are {', '.join(FIELDS)}"
    if missing := [name for name in FIELDS[:-1] if name not in row]:
        return f"{', '.join(missing)} missing: add it"
    return ""


def _texts_fault(row: Row) -> str:
    for name in TEXTS:
        if fault := _text_fault(row[name]):
            return f"{name} {fault}"
    if len(row["age_band"]) > 12:
        return "age_band is longer than 12 characters: give for example 5-6"
    if row["language"] not in Language.values:
        return f"language is {row['language']!r}: give {' or '.join(Language.values)}"
    return ""


def _key_fault(row: Row) -> str:
    try:
        validate_slug(row["key"])
    except ValidationError:
        return f"key is {row['key']!r}: use only letters without accents, digits, - and _"
    return "key is longer than 60 characters: shorten it" if len(row["key"]) > 60 else ""


def _stories_fault(row: Row) -> str:
    stories = row["stories"]
    if not isinstance(stories, list) or not 2 <= len(stories) <= 5:
        return "stories is not a list of 2 to 5 texts: give them in square brackets"
    for number, story in enumerate(stories, start=1):
        if fault := _text_fault(story):
            return f"story {number} {fault}"
    return ""


def _numbers_fault(row: Row) -> str:
    count = len(row["stories"])
    for name in ("best", "worst"):
        if type(row[name]) is not int or not 1 <= row[name] <= count:
            return f"{name} is {row[name]!r}: give the number of a story, 1 to {count}"
    if row["best"] == row["worst"]:
        return f"story {row['best']} is both the best and the worst: change one of them"
    order = row.get("sort_order", 0)
    if type(order) is not int or not 0 <= order <= MAX_SORT_ORDER:
        return f"sort_order is {order!r}: give a whole number from 0 to {MAX_SORT_ORDER}, or leave it out"
    return ""


def _text_fault(value: Any) -> str:
    if not isinstance(value, str):
        return f"is {value!r}: give text, in quotation marks"
    if not value.strip():
        return "is empty: fill it in"
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        return "holds a character that is no text (NUL or half a surrogate pair): delete it"
    return ""


# each one may rely on those before it
CHECKS: tuple[Callable[[Row], str], ...] = (_names_fault, _texts_fault, _key_fault, _stories_fault, _numbers_fault)
