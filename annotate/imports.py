"""Preference pairs from elsewhere: kept apart from experts' judgements, with where they came from.

They are in no win rate, no agreement and no export. A round may train on them (`imported_pairs`).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import foreign
from annotate.foreign import BadFile, BadLine, Preference
from annotate.models import ImportedPair, Origin
from annotate.pairs import OVERALL
from generation.models import Policy, Split, Story

OF_POLICY = "imported: "  # what a round's file names instead of the policy that wrote the stories, and the origin
FAULTS = 20  # that are told; all are counted
BATCH = 1000


class BadImport(ValueError):
    """Nothing was imported: `report` says why, if the file could be read at all."""

    def __init__(self, message: str, report: "Report | None" = None) -> None:
        super().__init__(message)
        self.report = report


class NoTemplate(ValueError):
    """It is not known how a policy is asked; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """Whose pairs they are, and how their file is to be read (annotate.foreign.preferences)."""

    name: str
    licence: str
    language: str
    rendered: bool = False
    which: str = foreign.EVERY


@dataclass
class Report:
    """What a file holds. known: pairs that are here already, or twice in the file. equal: rows that prefer nothing.
    several_turns: of the new ones, pairs that no round trains on. faults: the first of them, by line."""

    rows: int = 0
    new: int = 0
    known: int = 0
    equal: int = 0
    several_turns: int = 0
    fault_count: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def faults_untold(self) -> int:
        return self.fault_count - len(self.faults)


def check_preferences(path: Path, source: Source) -> Report:
    """What importing would do. Writes nothing. Raises BadImport if the file cannot be read."""
    return _go_through(path, source, None)


def import_preferences(
    path: Path, source: Source, *, by: User | None = None, file_name: str = ""
) -> tuple[Origin, Report]:
    """Import all pairs of the file, or none: BadImport."""
    _check(source)
    try:
        with transaction.atomic():
            origin = Origin.objects.create(
                name=source.name,
                licence=source.licence,
                language=source.language,
                rendered=source.rendered,
                file_name=(file_name or path.name)[:200],
                file_sha256=_hash(path),
                imported_by=by,
                count=0,
            )
            report = _go_through(path, source, origin)
            if report.fault_count:
                raise BadImport(_("The file has faults: nothing was imported."), report)
            if not report.new:
                raise BadImport(_("The file holds no pair that is new: nothing was imported."), report)
            origin.count, origin.known = report.new, report.known
            origin.save(update_fields=["count", "known"])
    except IntegrityError as error:
        raise BadImport(_("Another import wrote the same pairs or the same origin just now. Try again.")) from error
    return origin, report


@transaction.atomic
def withdraw_origin(*, origin: Origin, by: User | None = None) -> int:
    """Delete the origin's pairs; its record stays. How many there were; 0 if it was withdrawn before."""
    if not Origin.objects.in_use().filter(pk=origin.pk).update(withdrawn_at=timezone.now(), withdrawn_by=by):
        return 0
    return ImportedPair.objects.filter(origin=origin).delete()[0]


def imported_pairs(*, origins: Sequence[str], policy: Policy | None = None) -> Iterator[dict[str, Any]]:
    """The pairs of these origins as lines of a round's file, in the shape of annotate.pairs.export_row.

    `prompt` is what `policy` (the one in use, if none is given) would read: its chat template stands around the
    user's words as it stands around its own stories' prompts. Nobody has sampled the stories, so they have no token
    ids (None, which the trainer reads as: tokenize the text). Weight 1, of no judgements. Pairs of several turns are
    left out. Withdrawn origins have none. Raises NoTemplate.
    """
    found = ImportedPair.objects.trainable().filter(origin__name__in=origins).select_related("origin")
    frame: tuple[str, str] | None = None
    for pair in found.order_by("pk").iterator():
        if frame is None and not pair.origin.rendered:
            frame = template_of(policy or Policy.objects.current())
        yield _row(pair, frame)


def template_of(policy: Policy | None) -> tuple[str, str]:
    """What stands before and behind the user's words when `policy` is asked, as one of its stories shows: there is
    no tokenizer to load. Raises NoTemplate."""
    stories = Story.objects.filter(policy=policy).select_related("prompt").order_by("-pk")[:20] if policy else ()
    for story in stories:
        if story.rendered_prompt.count(story.prompt.text) == 1:
            before, _text, behind = story.rendered_prompt.partition(story.prompt.text)
            return before, behind
    raise NoTemplate(
        _("%(policy)s has written no story yet, so it is not known how it is asked. Have it write stories first.")
        % {"policy": policy or _("The policy in use")}
    )


def origin_of(row: Mapping[str, Any]) -> str:
    """Whose pair a line of a round's file is: its origin's name, or "" if it is this house's experts'."""
    if row.get("prompt_id", 0) is not None:
        return ""
    return str(row["policy"]).removeprefix(OF_POLICY)


def _row(pair: ImportedPair, frame: tuple[str, str] | None) -> dict[str, Any]:
    asked = "\n\n".join(message["content"].strip() for message in pair.prompt)  # a system's message, too
    prompt = pair.prompt[0]["content"] if pair.origin.rendered or frame is None else asked.join(frame)
    return {
        "prompt": prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "chosen_ids": None,
        "rejected_ids": None,
        "weight": 1.0,
        "criterion": OVERALL,
        "judgements_for": 0,
        "judgements_against": 0,
        "simulated_judgements": 0,
        "prompt_id": None,
        "chosen_id": None,
        "rejected_id": None,
        "edited": False,
        "policy": OF_POLICY + pair.origin.name,
        "language": pair.origin.language,
        "theme": "",
        "story_type": "",
        "age_band": "",
        "split": Split.TRAIN.value,
    }


def _check(source: Source) -> None:
    if not source.name.strip() or not source.licence.strip():
        raise BadImport(_("Say where the pairs come from, and under which licence."))
    if Origin.objects.filter(name=source.name).exists():
        raise BadImport(
            _("There is an origin “%(name)s” already. Give another file another name: “%(name)s, part 2”.")
            % {"name": source.name}
        )


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadImport(f"{path} cannot be read: {error.strerror}.") from error


def _go_through(path: Path, source: Source, origin: Origin | None) -> Report:
    """Read the whole file, and write what is new for `origin` if there is one."""
    report, seen = Report(), set[str]()
    batch: list[tuple[int, Preference]] = []
    try:
        for line, row, torn in foreign.rows(path):
            report.rows += 1
            batch += _of_row(line, row, torn, source, report)
            if len(batch) >= BATCH:
                _take(batch, report, seen, origin)
                batch = []
    except BadFile as error:
        raise BadImport(str(error)) from error
    _take(batch, report, seen, origin)
    return report


def _of_row(line: int, row: Any, torn: str, source: Source, report: Report) -> list[tuple[int, Preference]]:
    try:
        if torn:
            raise BadLine(torn)
        found = foreign.preferences(row, rendered=source.rendered, which=source.which)
    except BadLine as error:
        report.fault_count += 1
        if len(report.faults) < FAULTS:
            report.faults.append(f"line {line}: {error}")
        return []
    report.equal += not found
    return [(line, preference) for preference in found]


def _take(batch: list[tuple[int, Preference]], report: Report, seen: set[str], origin: Origin | None) -> None:
    hashed = [(preference.sha256, line, preference) for line, preference in batch]
    here = ImportedPair.objects.filter(sha256__in=[one[0] for one in hashed]).values_list("sha256", flat=True)
    known, new = set(here), []
    for sha256, line, preference in hashed:
        if sha256 in known or sha256 in seen:
            report.known += 1
            continue
        seen.add(sha256)
        report.new += 1
        report.several_turns += preference.turns > 1
        new.append((sha256, line, preference))
    if origin and not report.fault_count:  # else all of it is taken back anyway
        ImportedPair.objects.bulk_create(
            ImportedPair(
                origin=origin,
                line=line,
                turns=preference.turns,
                prompt=preference.prompt,
                chosen=preference.chosen,
                rejected=preference.rejected,
                margin=preference.margin,
                sha256=sha256,
            )
            for sha256, line, preference in new
        )
