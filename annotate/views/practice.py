"""The calibration set before the first real comparison, and the guidelines beside the work."""

from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotate.models import Campaign, Example, PracticeAnswer
from annotate.permissions import ExpertRequest, expert_required
from annotate.practice import (
    BadPractice,
    answer_example,
    answers_of,
    explanation_of,
    guidelines_text,
    next_example,
)
from annotate.views.page import WORST_KEYS


@expert_required
@require_safe
@never_cache
def practice(request: ExpertRequest) -> HttpResponse:
    """The next example. With `look`, one that was answered, explained; empty, the first of them."""
    look = request.GET.get("look")
    if look is not None:
        answered = list(answers_of(request.expert))
        found = next((a for a in answered if look in ("", a.example.key)), None)
        if found:
            return _explained(request, found, answered)
    example = next_example(request.expert)
    return _question(request, example) if example else redirect("judge")


@expert_required
@require_POST
def answer_practice(request: ExpertRequest, key: str) -> HttpResponse:
    """Keep the answer, then explain: by a redirect, so that the explanation can be read again in the other language."""
    example = get_object_or_404(Example.objects.for_expert(request.expert), key=key)
    best, worst = (_position(request.POST.get(name, "")) for name in ("best", "worst"))
    try:
        answer_example(expert=request.expert, example=example, best=best, worst=worst)
    except BadPractice as error:
        return _question(request, example, status=422, error=str(error), best=best, worst=worst)
    return redirect(f"{reverse('practice')}?{urlencode({'look': key})}")


@expert_required
@require_safe
@never_cache
def guidelines(request: ExpertRequest) -> HttpResponse:
    own = guidelines_text(Campaign.current(), get_language() or "")
    return render(request, "annotate/guidelines.html", {"own_guidelines": own})


def _question(request: ExpertRequest, example: Example, status: int = 200, **chosen: object) -> HttpResponse:
    return render(request, "annotate/practice.html", {**_page(request, example), **chosen}, status=status)


def _explained(request: ExpertRequest, answer: PracticeAnswer, answered: list[PracticeAnswer]) -> HttpResponse:
    unanswered = next_example(request.expert) is not None
    later = [] if unanswered else answered[answered.index(answer) + 1 :]
    context = {
        **_page(request, answer.example),
        "answer": answer,
        "explanation": explanation_of(answer.example, get_language() or ""),
        # without examples to answer, the others can be looked at once more
        "look": later[0].example.key if later else "",
        "last": not unanswered and not later,
    }
    return render(request, "annotate/practice.html", context)


def _page(request: ExpertRequest, example: Example) -> dict[str, object]:
    keys = list(Example.objects.for_expert(request.expert).values_list("key", flat=True))
    return {
        "example": example,
        "keys": request.expert.keys_enabled,
        "number": keys.index(example.key) + 1,
        "total": len(keys),
        "cards": [
            {"position": position, "text": text, "worst_key": worst_key}
            for position, (text, worst_key) in enumerate(zip(example.stories, WORST_KEYS, strict=False), start=1)
        ],
    }


def _position(text: str) -> int | None:
    """The number of a story; what is no number is no choice."""
    return int(text) if text.isascii() and text.isdigit() and len(text) == 1 else None
