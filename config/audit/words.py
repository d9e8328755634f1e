"""What entries say, in the reader's language: the acts, what they were done to, and what changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.forms_admin import CampaignForm
from annotate.forms_data import ExportForm, UploadForm
from annotate.models import Campaign, Expert, Export, Gold, Origin, Report
from config.audit.kinds import KINDS
from config.models import ApiToken, Invitation
from config.models_audit import AuditEntry, Source
from generation.models import JudgeModel, Policy, Prompt, SamplingRow, WritingRun
from training.forms_notices import WebhookForm
from training.models import AlarmLimits, Destination, PromotionRule, Proposal, Round, Schedule


@dataclass(frozen=True)
class Type:
    """What an act may be done to. page: the name of its URL; key: the column that the address and the log have."""

    label: Any
    model: type[models.Model]
    page: str = ""
    key: str = "pk"

    @property
    def one(self) -> bool:
        """There is only one: its page has no number."""
        return not self.key


TYPES = {
    "user": Type(gettext_lazy("account"), User, "show_person"),
    "invitation": Type(gettext_lazy("invitation"), Invitation),
    "round": Type(gettext_lazy("round"), Round, "show_round", "number"),
    "policy": Type(gettext_lazy("policy"), Policy, "show_policy"),
    "schedule": Type(gettext_lazy("schedule"), Schedule, "edit_schedule"),
    "proposal": Type(gettext_lazy("proposal"), Proposal),
    "destination": Type(gettext_lazy("notices to"), Destination),
    "run": Type(gettext_lazy("writing run"), WritingRun, "show_run"),
    "export": Type(gettext_lazy("export"), Export, "show_export"),
    "origin": Type(gettext_lazy("imported data"), Origin),
    "report": Type(gettext_lazy("report"), Report),
    "gold": Type(gettext_lazy("known answer"), Gold),
    "prompt": Type(gettext_lazy("prompts"), Prompt, "", ""),
    "campaign": Type(gettext_lazy("settings of judging"), Campaign, "judging", ""),
    "plan": Type(gettext_lazy("sampling plan"), SamplingRow, "plan", ""),
    "judge": Type(gettext_lazy("judge model"), JudgeModel, "show_detectors", ""),
    "limits": Type(gettext_lazy("limits of the alarms"), AlarmLimits, "alarm_limits", ""),
    "rule": Type(gettext_lazy("rule of promotion"), PromotionRule, "schedules", ""),
}
FORMS: dict[str, Any] = {
    "campaign": CampaignForm,
    "export": ExportForm,
    "origin": UploadForm,
    "destination": WebhookForm,
}  # whose labels name the columns
ALSO = {"user": (Expert, Authenticator, ApiToken)}  # whose columns are told of the same object
OWN = {
    "is_staff": gettext_lazy("admin"),
    "is_superuser": gettext_lazy("superuser"),
    "is_active": gettext_lazy("may log in"),
    "username": gettext_lazy("name"),
    "email": gettext_lazy("e-mail"),
    "password": gettext_lazy("password"),
    "audience": gettext_lazy("audience"),
    "adjudicates": gettext_lazy("adjudicator"),
    "simulated": gettext_lazy("simulated"),
    "type": gettext_lazy("kind"),
    "role": gettext_lazy("comes as"),
    "channel": gettext_lazy("kind"),
    "outcome": gettext_lazy("outcome"),
    "methods": gettext_lazy("by means of"),
    "expires_at": gettext_lazy("works until"),
    "count": gettext_lazy("number"),
    "first": gettext_lazy("the oldest of"),
    "last": gettext_lazy("the newest of"),
    "table": gettext_lazy("table"),
    "policy_id": gettext_lazy("policy"),
    "user_id": gettext_lazy("account"),
    "state": gettext_lazy("state"),
}
MEANS = {
    "password": gettext_lazy("password"),
    "totp": gettext_lazy("code of an app"),
    "webauthn": gettext_lazy("passkey"),
    "recovery_codes": gettext_lazy("recovery code"),
}
BEAT = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}


@dataclass(frozen=True)
class Line:
    """An entry as the page shows it. url: "" where the object has no page, or is no more."""

    entry: AuditEntry
    who: str
    who_url: str
    through: str
    what: str
    about: str
    url: str
    facts: list[str]


def lines(entries: Iterable[AuditEntry]) -> list[Line]:
    """With one query for each type of object that has a page."""
    found = list(entries)
    there = _there(found)
    people = dict(User.objects.filter(pk__in=_accounts(found)).values_list("pk", "username"))
    return [_line(one, there, people) for one in found]


def what(kind: str) -> str:
    return str(KINDS.get(kind, kind))


def who(entry: AuditEntry, people: dict[int, str]) -> str:
    """The account's name of today; "" where there was none."""
    return people.get(entry.actor_id, f"#{entry.actor_id}") if entry.actor_id else ""


def facts(entry: AuditEntry) -> list[str]:
    """{"is_staff": [false, true]} -> ["admin: no → yes"]."""
    said = []
    for name, value in entry.facts.items():
        if name == "changed":
            said += [_("%(what)s: changed") % {"what": _label(entry, one)} for one in value]
            continue
        pair = len(value) == 2 and name not in _LISTS if isinstance(value, list) else False
        values = [_value(entry, name, one) for one in (value if pair else [value])]
        said.append(f"{_label(entry, name)}: {' → '.join(values)}")
    return said


_LISTS = ("methods",)
TIMES = ("first", "last")


def _line(entry: AuditEntry, there: dict[str, set[int]], people: dict[int, str]) -> Line:
    known = TYPES.get(entry.object_type)
    url = ""
    if known and known.page and known.one:
        url = reverse(known.page)
    elif known and known.page and entry.object_id in there.get(entry.object_type, ()):
        url = reverse(known.page, args=[entry.object_id])
    return Line(
        entry=entry,
        who=who(entry, people) or _nobody(entry),
        who_url=reverse("show_person", args=[entry.actor_id]) if entry.actor_id in people else "",
        through=_through(entry),
        what=what(entry.kind),
        about=_about(entry, known, people),
        url=url,
        facts=facts(entry),
    )


def _nobody(entry: AuditEntry) -> str:
    if entry.source == Source.TASK and entry.through in BEAT:
        return _("schedule")
    if entry.source in (Source.WEB, Source.API):
        return _("somebody who is not logged in")
    return str(Source(entry.source).label)


def _through(entry: AuditEntry) -> str:
    way = "" if entry.actor_id is None and entry.source not in (Source.WEB, Source.API) else Source(entry.source).label
    return " · ".join(str(part) for part in (way, entry.through) if part)


def _about(entry: AuditEntry, known: Type | None, people: dict[int, str]) -> str:
    if known is None:
        return entry.object_type
    name = entry.label
    if entry.object_type == "user" and entry.object_id:
        name = people.get(entry.object_id, "")
    mark = "" if known.key == "number" else "#"
    number = f"{mark}{entry.object_id}" if entry.object_id and not name else ""
    return " ".join(part for part in (str(known.label), name, number) if part)


def _accounts(entries: list[AuditEntry]) -> set[int]:
    found = {one.actor_id for one in entries if one.actor_id}
    return found | {one.object_id for one in entries if one.object_type == "user" and one.object_id}


def _there(entries: list[AuditEntry]) -> dict[str, set[int]]:
    """{type: numbers of those that still exist}."""
    wanted: dict[str, set[int]] = {}
    for one in entries:
        known = TYPES.get(one.object_type)
        if one.object_id and known and known.page and not known.one:
            wanted.setdefault(one.object_type, set()).add(one.object_id)
    return {
        name: set(TYPES[name].model._default_manager.filter(**{f"{key}__in": ids}).values_list(key, flat=True))
        for name, ids in wanted.items()
        for key in [TYPES[name].key]
    }


def _field(entry: AuditEntry, name: str) -> Any:
    known = TYPES.get(entry.object_type)
    for model in (*ALSO.get(entry.object_type, ()), *([known.model] if known else [])):
        try:
            return model._meta.get_field(name.rpartition(".")[2].removesuffix("_id"))
        except FieldDoesNotExist:
            continue
    return None


def _label(entry: AuditEntry, name: str) -> str:
    """A column in words; "2.temperature" is of the second story."""
    form = FORMS.get(entry.object_type)
    if form and name in form.base_fields:
        return str(form.base_fields[name].label)
    if name in OWN:
        return str(OWN[name])
    number = name.rpartition(".")[0]
    field = _field(entry, name)
    told = str(field.verbose_name) if field is not None else name.rpartition(".")[2]
    return _("story %(number)s: %(what)s") % {"number": number, "what": told} if number else told


def _value(entry: AuditEntry, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, list):
        return ", ".join(_value(entry, name, one) for one in value)
    if name == "methods":
        return str(MEANS.get(value, value))
    if name.endswith("_at") or name in TIMES:
        at = parse_datetime(str(value))
        return date_format(timezone.localtime(at), "Y-m-d H:i") if at else str(value)
    field = _field(entry, name)
    base = getattr(field, "base_field", field)
    choices = dict(getattr(base, "flatchoices", None) or ())
    if value in choices:
        return str(choices[value])
    if name == "policy_id":
        policy = apps.get_model("generation", "Policy").objects.filter(pk=value).first()
        return str(policy) if policy else f"#{value}"
    return str(value)


def kind_choices() -> list[tuple[str, str]]:
    """By their words, as the filter lists them."""
    return sorted(((code, capfirst(str(label))) for code, label in KINDS.items()), key=lambda one: one[1])
