"""The admins' pages of policies, and how a round that has ended goes on."""

from functools import partial

from django import forms
from django.contrib import messages
from django.core.validators import RegexValidator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from annotate.permissions import AdminRequest, admin_required
from generation import policy_files
from generation.engines.values import EngineError
from generation.models import Policy
from training import downloads, policy_pages
from training.bundle import adapter_entries, full_entries
from training.changes import PolicyChange
from training.model_card import model_card
from training.models import Round
from training.resume import CannotResume, resume_round
from training.roll_back import CannotRollBack, roll_back
from training.tasks import send_round
from training.views_leftovers import delete_and_say
from training.weights import delete_weights


class FactsForm(forms.ModelForm):  # type: ignore[type-arg]
    """What nobody but a person may know of a base model."""

    license = forms.CharField(
        label=gettext_lazy("license"),
        required=False,
        max_length=60,
        validators=[RegexValidator(r"^[a-z0-9.+-]+$", gettext_lazy("Small letters, digits, dots and hyphens only."))],
        help_text=gettext_lazy("the Hugging Face Hub's name of it, such as apache-2.0; empty: what its folder says"),
    )
    hub_name = forms.CharField(
        label=gettext_lazy("name on the Hugging Face Hub"),
        required=False,
        max_length=120,
        validators=[RegexValidator(r"^[\w.-]+/[\w.-]+$", gettext_lazy("Say it like owner/model."))],
        help_text=gettext_lazy("such as owner/model, for the model cards of what is trained from it"),
    )

    class Meta:
        model = Policy
        fields = ("license", "hub_name")


@admin_required
@require_safe
def policies(request: HttpRequest) -> HttpResponse:
    """All policies, and which was in use when."""
    context = {
        "rows": policy_pages.rows(),
        "changes": PolicyChange.objects.select_related("policy", "before", "by"),
    }
    return render(request, "training/policies.html", context)


@admin_required
@require_safe
def show_policy(request: HttpRequest, number: int) -> HttpResponse:
    """One policy: what it is, and what can be done with it."""
    return _page(request, _policy(number))


@admin_required
@require_POST
def save_policy_facts(request: HttpRequest, number: int) -> HttpResponse:
    policy = get_object_or_404(Policy, pk=number, parent=None)
    form = FactsForm(request.POST, instance=policy)
    if not form.is_valid():
        return _page(request, _policy(number), form=form, status=422)
    policy.save(update_fields=["license", "hub_name"])
    messages.success(request, _("Saved: the model cards say it from now on."))
    return redirect("show_policy", number)


@admin_required
@require_POST
def roll_back_to(request: AdminRequest, number: int) -> HttpResponse:
    policy = _policy(number)
    try:
        roll_back(policy_id=policy.pk, by=request.user)
    except CannotRollBack as error:
        messages.error(request, str(error))
    else:
        said = _("%(policy)s is in use again: its stories are before the experts now.")
        messages.success(request, said % {"policy": policy.name})
    return redirect("show_policy", number)


@admin_required
@require_POST
def delete_policy_weights(request: HttpRequest, number: int) -> HttpResponse:
    policy = _policy(number)
    if "sure" not in request.POST:
        messages.error(request, _("Tick that the weights shall be deleted: they cannot be brought back."))
    else:
        done = _("Deleted: %(size)s are free. The record, the stories and the figures are kept.")
        delete_and_say(request, partial(delete_weights, policy_id=policy.pk), done)
    return redirect("show_policy", number)


@admin_required
@require_safe
def download_card(request: HttpRequest, number: int) -> HttpResponse:
    """README.md."""
    headers = {"Content-Disposition": f'attachment; filename="{_file_name(_policy(number))}-README.md"'}
    return HttpResponse(model_card(_policy(number)), content_type="text/markdown; charset=utf-8", headers=headers)


@admin_required
@require_safe
def download_weights(request: HttpRequest, number: int) -> HttpResponseBase:
    """The full weights as a .tar, straight from the disk."""
    policy = _policy(number)
    try:
        found = full_entries(policy)
    except EngineError as error:
        return _no_download(request, policy, error)
    return _tar(request, _file_name(policy), found)


@admin_required
@require_safe
def download_adapter(request: HttpRequest, number: int) -> HttpResponseBase:
    """The adapter alone as a .tar."""
    policy = _policy(number)
    if not policy.adapter_path:
        raise Http404
    try:
        found = adapter_entries(policy)
    except EngineError as error:
        return _no_download(request, policy, error)
    return _tar(request, f"{_file_name(policy)}-adapter", found)


@admin_required
@require_POST
def resume(request: HttpRequest, number: int) -> HttpResponse:
    """Go on with a round that was cancelled or has failed."""
    found = get_object_or_404(Round, number=number)
    try:
        resume_round(round_id=found.pk)
    except CannotResume as error:
        messages.error(request, str(error))
    else:
        transaction.on_commit(partial(send_round, found.pk))
        messages.success(request, _("The round goes on from where it was."))
    return redirect("show_round", number)


def _policy(number: int) -> Policy:
    return get_object_or_404(Policy.objects.select_related("parent"), pk=number)


def _page(request: HttpRequest, policy: Policy, *, form: FactsForm | None = None, status: int = 200) -> HttpResponse:
    context = policy_pages.page(policy)
    if policy.parent is None:
        context["form"] = form or FactsForm(instance=policy)
    return render(request, "training/policy.html", context, status=status)


def _no_download(request: HttpRequest, policy: Policy, error: EngineError) -> HttpResponse:
    messages.error(request, str(error))
    return redirect("show_policy", policy.pk)


def _tar(request: HttpRequest, name: str, found: list[policy_files.Entry]) -> HttpResponseBase:
    return downloads.send(request, policy_files.Tar(name, found), f"{name}.tar")


def _file_name(policy: Policy) -> str:
    """Of its name what every system takes for a file's."""
    return slugify(policy.name) or f"policy-{policy.pk}"
