"""Listening with a child: one thing on each page, no script needed, and nothing that tells who wrote a story."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotate.forms_listening import ChoiceForm, NotesForm, StartForm
from annotate.listening_rows import rows
from annotate.listening_sessions import (
    NOTHING_NOTED,
    PAIRS_SUGGESTED,
    NoStories,
    Superseded,
    end_session,
    next_listening,
    open_listening,
    record_choice,
    record_notes,
    start_session,
)
from annotate.models import Heard, Listening, ListeningSession, Picture, Reader
from annotate.permissions import AdultRequest, admin_required, adult_required
from annotate.views.page import paragraphs
from generation.permissions import own_or_404
from generation.spreadsheets import csv_response

UNFINISHED = 5  # sessions offered to go on with


@adult_required
@require_safe
@never_cache
def listen(request: AdultRequest) -> HttpResponse:
    """What a session is, the adult's consent, and sessions that were interrupted."""
    return _start_page(request, StartForm.fresh(get_language() or "en"))


@adult_required
@require_POST
def start_listening(request: AdultRequest) -> HttpResponse:
    form = StartForm(request.POST)
    if not form.is_valid():
        return _start_page(request, form, status=422)
    if ListeningSession.objects.filter(key=form.cleaned_data["key"]).exclude(adult=request.user).exists():
        return redirect("listen")
    try:
        session = start_session(adult=request.user, **form.session())
    except NoStories as error:
        form.add_error("language", str(error))
        return _start_page(request, form, status=422)
    return _go_on(session)


def _start_page(request: AdultRequest, form: StartForm, status: int = 200) -> HttpResponse:
    unfinished = request.user.listening_sessions.filter(ended_at=None)[:UNFINISHED]
    return render(request, "annotate/listening/start.html", {"form": form, "unfinished": unfinished}, status=status)


@adult_required
@require_safe
@never_cache
def listening_session(request: AdultRequest, key: UUID) -> HttpResponse:
    """Between two pairs, and after the last: what was heard, and what can come now."""
    session = _session(request, key)
    heard = session.listenings.answered().count()
    context = {
        "session": session,
        "ended": session.ended_at,
        "heard": heard,
        "open": open_listening(session),
        "enough": heard >= PAIRS_SUGGESTED,
        "suggested": PAIRS_SUGGESTED,
    }
    return render(request, "annotate/listening/session.html", context)


@adult_required
@require_POST
def next_pair(request: AdultRequest, key: UUID) -> HttpResponse:
    """The next two stories; pressed twice, the same two."""
    session = _session(request, key)
    try:
        next_listening(session=session)
    except NoStories as error:
        messages.info(request, str(error))
        return redirect("listening_session", key)
    return _go_on(session)


@adult_required
@require_POST
def end_listening(request: AdultRequest, key: UUID) -> HttpResponse:
    end_session(session=_session(request, key))
    return redirect("listening_session", key)


def _go_on(session: ListeningSession) -> HttpResponse:
    """To where the session stands."""
    listening = open_listening(session)
    if listening is None:
        return redirect("listening_session", session.key)
    return redirect("listening_notes" if listening.outcome else "hear_first", listening.key)


@adult_required
@require_safe
@never_cache
def hear_first(request: AdultRequest, key: UUID) -> HttpResponse:
    """The story that comes first."""
    return _story_page(request, key, 1)


@adult_required
@require_safe
@never_cache
def hear_second(request: AdultRequest, key: UUID) -> HttpResponse:
    return _story_page(request, key, 2)


def _story_page(request: AdultRequest, key: UUID, position: int) -> HttpResponse:
    listening = _listening(request, key)
    if listening.withdrawn:
        return _gone_page(request, listening)
    story = listening.first if position == 1 else listening.second
    context = {
        "listening": listening,
        "position": position,
        "picture": _pictures(listening)[position - 1],
        "paragraphs": [text for _start, text in paragraphs(story.text)],
        "by_voice": listening.session.read_by == Reader.BROWSER,
        "language": listening.session.language,
    }
    return render(request, "annotate/listening/story.html", context)


@adult_required
@require_safe
@never_cache
def this_or_that(request: AdultRequest, key: UUID) -> HttpResponse:
    """Two pictures: the child's page."""
    listening = _listening(request, key)
    return _gone_page(request, listening) if listening.withdrawn else _choice_page(request, listening)


@adult_required
@require_POST
def save_choice(request: AdultRequest, key: UUID) -> HttpResponse:
    """Keep what the child said, or that it said nothing. 409 if another page has kept something else."""
    listening = _listening(request, key)
    form = ChoiceForm(request.POST)
    if not form.is_valid():
        return _choice_page(request, listening, _("Touch one of the pictures."), status=422)
    outcome, position = form.given
    try:
        record_choice(listening=listening, outcome=outcome, position=position, version=form.cleaned_data["version"])
    except Superseded as error:
        complaint = _("Another page has kept an answer in the meantime. Touch a picture to change it.")
        return _choice_page(request, error.current, complaint, status=409)
    return redirect("listening_notes", key)


def _choice_page(request: AdultRequest, listening: Listening, complaint: str = "", status: int = 200) -> HttpResponse:
    pictures = _pictures(listening)
    context = {
        "listening": listening,
        "pictures": pictures if listening.first_on_left else pictures[::-1],
        "said": _said(listening),
        "complaint": complaint,
        "language": listening.session.language,
    }
    return render(request, "annotate/listening/choose.html", context, status=status)


@adult_required
@require_safe
@never_cache
def listening_notes(request: AdultRequest, key: UUID) -> HttpResponse:
    """The adult's page after the choice."""
    listening = _listening(request, key)
    if not listening.outcome:
        return redirect("this_or_that", key)
    noted = {name: getattr(listening, name) for name in NOTHING_NOTED}
    return _notes_page(request, listening, NotesForm(initial={"version": listening.version, **noted}))


@adult_required
@require_POST
def save_listening_notes(request: AdultRequest, key: UUID) -> HttpResponse:
    """Keep the adult's notes. 409 with what was entered if another page has kept others."""
    listening = _listening(request, key)
    if not listening.outcome:
        return redirect("this_or_that", key)
    form = NotesForm(request.POST)
    if not form.is_valid():
        complaint = _("Something on this page was not understood. Look at it and save again.")
        return _notes_page(request, listening, form, complaint, status=422)
    try:
        record_notes(listening=listening, notes=form.cleaned_data, version=form.cleaned_data["version"])
    except Superseded as error:
        complaint = _("Another page has saved this pair in the meantime. Save again to keep what stands here.")
        return _notes_page(request, error.current, form.at(error.current.version), complaint, status=409)
    return redirect("listening_session", listening.session.key)


def _notes_page(
    request: AdultRequest, listening: Listening, form: NotesForm, complaint: str = "", status: int = 200
) -> HttpResponse:
    first, second = _pictures(listening)
    context = {
        "listening": listening,
        "form": form,
        "first": first,
        "second": second,
        "asked_about": first if listening.asked_about_id == listening.first_id else second,
        "said": _said(listening),
        "complaint": complaint,
    }
    return render(request, "annotate/listening/notes.html", context, status=status)


def _gone_page(request: AdultRequest, listening: Listening) -> HttpResponse:
    return render(request, "annotate/listening/gone.html", {"session": listening.session})


def _session(request: AdultRequest, key: UUID) -> ListeningSession:
    return own_or_404(request.user, ListeningSession.objects.all(), key=key)


def _listening(request: AdultRequest, key: UUID) -> Listening:
    mine = Listening.objects.filter(session__adult=request.user).select_related("first", "second", "session")
    return get_object_or_404(mine, key=key)


def _pictures(listening: Listening) -> list[dict[str, Any]]:
    """What stands for the first and for the second story."""
    drawn = (Picture(listening.first_picture), Picture(listening.second_picture))
    chosen = (listening.choice_id == listening.first_id, listening.choice_id == listening.second_id)
    return [
        {"position": position, "code": picture.value, "name": picture.label, "chosen": chosen[position - 1]}
        for position, picture in enumerate(drawn, start=1)
    ]


def _said(listening: Listening) -> str:
    """The child's answer in words, or ""."""
    if listening.outcome == Heard.CHOSEN:
        return next(str(picture["name"]) for picture in _pictures(listening) if picture["chosen"])
    return str(Heard(listening.outcome).label) if listening.outcome else ""


@admin_required
@require_safe
def listenings_csv(request: HttpRequest) -> StreamingHttpResponse:
    """All answered pairs for a spreadsheet, a line each."""
    return csv_response(rows(), "listenings.csv")
