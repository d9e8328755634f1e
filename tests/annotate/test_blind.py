"""No page, header or file name tells an expert who wrote what, or why it is shown to them."""

import re

import pytest
from django.http import HttpResponse
from django.test import Client

from annotate.comparisons import open_evaluation_comparisons, open_preference_comparisons
from annotate.models import Assignment, Comparison, Expert, Kind
from annotate.queue import assign, next_assignment, shown_order
from generation.models import Prompt, Split
from tests.annotate.browsing import HTMX, UUID, html, page_of
from tests.factories import make_comparison, make_evaluation, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db

SECRETS = {"temperature": 0.83172, "top_p": 0.91735, "min_p": 0.04713, "seed": 77001234, "weights_hash": "feed" * 16}


def blind_comparison(purpose: str) -> Comparison:
    """A comparison whose every secret is a text that stands nowhere else."""
    new, old = make_policy("quagga-new"), make_policy("quagga-old")
    split = Split.TRAIN if purpose == "preference" else Split.EVALUATION
    prompt = make_prompt("A fox, please.", split=split)
    Prompt.objects.filter(pk=prompt.pk).update(id=990001)
    prompt = Prompt.objects.get(pk=990001)
    make_story(new, prompt, 0, "The first fox.", pk=990002, **SECRETS)
    make_story(new, prompt, 1, "The second fox.", pk=990003, **SECRETS)
    make_story(old, prompt, 0, "The third fox.", pk=990004, **SECRETS)
    open_preference_comparisons(policy=new)
    open_evaluation_comparisons(policy=new, baseline=old)
    return Comparison.objects.get(purpose=purpose)


@pytest.mark.parametrize("purpose", ["preference", "evaluation"])
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
def test_judging_is_blind(judging: Client, expert: Expert, purpose: str, headers: dict[str, str]) -> None:
    blind_comparison(purpose)
    assignment = next_assignment(expert=expert)
    response = judging.get(page_of(assignment), **headers)
    sent = html(response).lower()
    head = " ".join(f"{name}: {value}" for name, value in response.items()).lower()
    head = re.sub(r"\b[a-z-]+-policy:", "", head)
    names = ["quagga", "preference", "evaluation", "baseline", "policy", "round", "seed", "sampl", "99000"]
    names += ["gold", "adjudicat", "ordinary", "minimum"]
    assert "fox." in sent
    assert [word for word in [*names, *map(str, SECRETS.values())] if word in sent + head] == []
    view = re.search(r'name="page" value="([^"]+)"', sent)[1]
    assert set(re.findall(UUID, sent)) == {str(assignment.key), view}


def without_tokens(page: str, assignment: Assignment) -> str:
    """The page without what is drawn anew at each view."""
    page = re.sub(r'(name="(?:csrfmiddlewaretoken|page)" value=|"X-CSRFToken": )"[^"]+"', r"\1", page)
    return page.replace(str(assignment.key), "KEY")


def heads_of(response: HttpResponse) -> tuple[tuple[str, str], ...]:
    """But for the time of the answer, to the second, and the number that it has in the logs."""
    return tuple(sorted(head for head in response.items() if head[0] not in ("Expires", "X-Request-ID")))


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
def test_the_page_does_not_tell_why_a_comparison_is_shown(
    judging: Client, expert: Expert, headers: dict[str, str]
) -> None:
    comparison = make_comparison()
    shown = shown_order(expert, comparison)
    views = set()
    for kind in Kind:
        assignment = assign(comparison, expert, kind=kind, shown=shown)
        response = judging.get(page_of(assignment), **headers)
        views.add((without_tokens(html(response), assignment), heads_of(response)))
    assert len(views) == 1


def test_both_purposes_load_the_same_files_and_send_the_same_headers(judging: Client, expert: Expert) -> None:
    kinds = set()
    for comparison in (make_comparison(2), make_evaluation(make_policy(), make_policy())):
        assignment = assign(comparison, expert, kind=Kind.ORDINARY, shown=shown_order(expert, comparison))
        response = judging.get(page_of(assignment))
        files = tuple(re.findall(r'(?:src|href)="(/static/[^"]+)"', html(response)))
        kinds.add((files, heads_of(response)))
    assert len(kinds) == 1


def test_each_view_of_a_page_has_a_token_of_its_own(judging: Client, expert: Expert) -> None:
    make_comparison()
    assignment = next_assignment(expert=expert)
    views = {re.search(r'name="page" value="([^"]+)"', html(judging.get(page_of(assignment))))[1] for _ in range(3)}
    assert len(views) == 3
