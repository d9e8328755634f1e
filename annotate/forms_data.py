"""The admins' forms about data that leave and data from elsewhere."""

from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotate import foreign
from annotate.imports import Source
from annotate.models import Comparison, Criterion, Format, Layout, Origin, Purpose
from annotate.pairs import OVERALL
from annotate.selections import Selection
from generation.models import Language, Policy

SUFFIXES = (*foreign.JSONL, *foreign.PARQUET)


class ExportForm(forms.Form):
    """What to export, how, and what for."""

    purpose = forms.CharField(
        label=_("What it is for"), max_length=200, help_text=_("Kept with the export: “paper, table 2”, “backup”.")
    )
    format = forms.ChoiceField(label=_("format"), choices=Format.choices)
    layout = forms.ChoiceField(
        label=_("layout"),
        choices=Layout.choices,
        help_text=_("Of JSONL and Parquet. As text: what the policy read, with token ids, for this trainer and TRL."),
    )
    policy = forms.ChoiceField(label=_("stories of"), required=False)
    language = forms.ChoiceField(
        label=_("language"), required=False, choices=[("", _("all languages")), *Language.choices]
    )
    criteria = forms.MultipleChoiceField(
        label=_("Pairs by"),
        choices=[(OVERALL, _("the ranking as a whole")), *Criterion.choices],
        initial=[OVERALL],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose one criterion or more.")},
    )
    include_simulated = forms.BooleanField(
        label=_("Simulated experts, too"), required=False, help_text=_("Otherwise people's judgements only.")
    )
    reasons = forms.BooleanField(
        label=_("Tell the reasons of each vote"),
        required=False,
        help_text=_("In the experts' own words: read them before you pass them on."),
    )
    experts = forms.BooleanField(
        label=_("Tell apart who voted, by pseudonym"),
        required=False,
        help_text=_("With their audience. Names and addresses are in no export."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        judged = Comparison.objects.filter(policy=OuterRef("pk"), purpose=Purpose.PREFERENCE)
        names = Policy.objects.filter(Exists(judged)).values_list("name", flat=True)
        every: list[tuple[str, Any]] = [("", _("all policies"))]
        self.fields["policy"].choices = [*every, *((name, name) for name in names)]  # type: ignore[attr-defined]
        self.fields["include_simulated"].initial = settings.DEMO

    def selection(self) -> Selection:
        values = self.cleaned_data
        return Selection(
            policies=(values["policy"],) if values["policy"] else (),
            include_simulated=values["include_simulated"],
            criteria=tuple(values["criteria"]),
            languages=(values["language"],) if values["language"] else (),
            reasons=values["reasons"],
            experts=values["experts"],
        )


class SourceForm(forms.Form):
    """Whose preferences they are, and how they are to be read."""

    name = forms.CharField(
        label=_("Where they come from"), max_length=80, help_text=_("One name for each file: “UltraFeedback, part 1”.")
    )
    licence = forms.CharField(
        label=_("Licence"), max_length=80, help_text=_("Under which you may train on them: “MIT”, “CC BY 4.0”.")
    )
    language = forms.ChoiceField(label=_("language"), choices=Language.choices)
    which = forms.ChoiceField(
        label=_("Of several scored completions"),
        choices=[(foreign.EVERY, _("every pair")), (foreign.EXTREMES, _("the best against the worst"))],
    )
    rendered = forms.BooleanField(
        label=_("The prompts hold a chat template already"),
        required=False,
        help_text=_("As in Storyloop's own exports. Otherwise the policy's own template is put around them."),
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Origin.objects.filter(name=name).exists():
            raise forms.ValidationError(gettext("There is an origin of this name already: give this file another one."))
        return name

    def source(self) -> Source:
        return Source(**{name: self.cleaned_data[name] for name in SourceForm.base_fields})


class UploadForm(SourceForm):
    """With the file itself."""

    file = forms.FileField(label=_("File"), max_length=200)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["file"].widget.attrs["accept"] = ",".join(SUFFIXES)
        self.fields["file"].help_text = gettext(
            "JSONL or Parquet, %(size)s MB at most. Larger ones: manage.py import_preferences."
        ) % {"size": settings.IMPORT_MAX_MB}
        self.order_fields(["file"])

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if Path(file.name or "").suffix.lower() not in SUFFIXES:
            raise forms.ValidationError(gettext("Its name must end with .jsonl or .parquet."))
        if (file.size or 0) > settings.IMPORT_MAX_MB * 1_000_000:
            raise forms.ValidationError(
                gettext("It has more than %(size)s MB. Import it with manage.py import_preferences.")
                % {"size": settings.IMPORT_MAX_MB}
            )
        return file


class KeptForm(SourceForm):
    """With the name of a file that was uploaded to be checked."""

    key = forms.UUIDField()
    file_name = forms.CharField(max_length=200)

    def clean_file_name(self) -> str:
        name: str = self.cleaned_data["file_name"]
        if Path(name).suffix.lower() not in SUFFIXES:
            raise forms.ValidationError(gettext("Its name must end with .jsonl or .parquet."))
        return name
