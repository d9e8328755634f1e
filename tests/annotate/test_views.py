"""The experts' pages, as a browser sees them: with htmx and without JavaScript."""

import re
import uuid

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from annotate.comparisons import close_comparisons, open_evaluation_comparisons, open_preference_comparisons
from annotate.judgements import next_assignment, record_judgement
from annotate.models import Assignment, Comparison, Expert, Judgement
from generation.models import Prompt, Split, Story
from tests.factories import make_comparison, make_expert, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PAGES = ("judge_comparison", "submit_judgement", "skip_comparison")


def page_of(assignment: Assignment) -> str:
    return reverse("judge_comparison", args=[assignment.key])


def submit(client: Client, assignment: Assignment, *, htmx: bool = False, **data: object) -> HttpResponse:
    url = reverse("submit_judgement", args=[assignment.key])
    return client.post(url, {"verdict": "ranked", **data}, **(HTMX if htmx else {}))


def skip(client: Client, assignment: Assignment, **extra: str) -> HttpResponse:
    return client.post(reverse("skip_comparison", args=[assignment.key]), **extra)


def html(response: HttpResponse) -> str:
    return response.content.decode()


def messages_in(response: HttpResponse) -> list[str]:
    return re.findall(r'<p class="message (?:info|success)">(.*?)</p>', html(response))


def checked(response: HttpResponse) -> set[tuple[str, str]]:
    return set(re.findall(r'name="(best|worst)" value="(\d)" checked', html(response)))


@pytest.fixture
def assignment(expert: Expert) -> Assignment:
    make_comparison(3)
    return next_assignment(expert=expert)


# who comes in


def test_the_way_to_work_leads_through_the_log_in(client: Client) -> None:
    response = client.get(reverse("judge"))
    assert (response.status_code, response["Location"]) == (302, "/log-in/?next=/judge/")


@pytest.mark.parametrize("name", PAGES)
def test_who_is_not_logged_in_is_sent_to_log_in(client: Client, assignment: Assignment, name: str) -> None:
    response = client.post(reverse(name, args=[assignment.key]), {"verdict": "tie"})
    assert response["Location"].startswith("/log-in/")
    assert not Judgement.objects.exists()


def no_expert(kind: str):
    if kind == "simulated":
        return make_expert(simulated=True).user
    return get_user_model().objects.create_user(kind, is_staff=kind == "admin")


@pytest.mark.parametrize("kind", ["admin", "nobody", "simulated"])
def test_who_is_no_expert_may_not_judge(client: Client, kind: str) -> None:
    client.force_login(no_expert(kind))
    assert client.get(reverse("judge")).status_code == 403


@pytest.mark.parametrize("kind", ["admin", "nobody", "simulated"])
@pytest.mark.parametrize("name", PAGES)
def test_who_is_no_expert_may_not_answer(client: Client, assignment: Assignment, kind: str, name: str) -> None:
    client.force_login(no_expert(kind))
    response = client.post(reverse(name, args=[assignment.key]), {"verdict": "tie"})
    assert (response.status_code, Judgement.objects.count()) == (403, 0)


def test_a_simulated_expert_may_not_answer_even_their_own_comparison(client: Client) -> None:
    expert = make_expert(simulated=True)
    make_comparison()
    client.force_login(expert.user)
    assert submit(client, next_assignment(expert=expert), best=1).status_code == 403


@pytest.mark.parametrize("name", PAGES)
def test_another_experts_comparison_is_not_found(client: Client, assignment: Assignment, name: str) -> None:
    client.force_login(make_expert().user)
    method = client.get if name == "judge_comparison" else client.post
    assert method(reverse(name, args=[assignment.key]), {"verdict": "tie"}).status_code == 404
    assert Assignment.objects.unanswered().get() == assignment


@pytest.mark.parametrize("name", PAGES)
def test_an_unknown_comparison_is_not_found(judging: Client, name: str) -> None:
    method = judging.get if name == "judge_comparison" else judging.post
    assert method(reverse(name, args=[uuid.uuid4()])).status_code == 404


@pytest.mark.parametrize("name", ["submit_judgement", "skip_comparison"])
def test_a_link_answers_nothing(judging: Client, assignment: Assignment, name: str) -> None:
    assert judging.get(reverse(name, args=[assignment.key])).status_code == 405


@pytest.mark.parametrize("name", ["submit_judgement", "skip_comparison"])
def test_another_sites_form_answers_nothing(expert: Expert, assignment: Assignment, name: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(expert.user)
    response = browser.post(reverse(name, args=[assignment.key]), {"verdict": "tie"})
    assert response.status_code == 403
    assert Assignment.objects.unanswered().get() == assignment


def test_our_own_form_carries_the_token_that_lets_it_in(expert: Expert, assignment: Assignment) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(expert.user)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html(browser.get(page_of(assignment))))[1]
    assert submit(browser, assignment, verdict="tie", csrfmiddlewaretoken=token).status_code == 302
    assert Judgement.objects.count() == 1


# what they see


def test_judge_leads_to_the_experts_comparison(judging: Client, assignment: Assignment) -> None:
    for _ in range(2):
        assert judging.get(reverse("judge"))["Location"] == page_of(assignment)


def test_judge_takes_a_place(judging: Client, expert: Expert) -> None:
    make_comparison()
    judging.get(reverse("judge"))
    assert Assignment.objects.unanswered().get().expert == expert


def test_the_stories_stand_in_the_order_kept(judging: Client, assignment: Assignment) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(shown=assignment.shown[::-1])
    assignment.refresh_from_db()
    shown = re.findall(r'<div class="story"[^>]*>(.*?)</div>', html(judging.get(page_of(assignment))))
    assert shown == [story.text for story in assignment.stories()]


def test_the_prompt_stands_above_the_stories(judging: Client, assignment: Assignment) -> None:
    assert assignment.comparison.prompt.text in html(judging.get(page_of(assignment)))


def test_an_expert_can_finish_a_comparison_that_was_closed(judging: Client, assignment: Assignment) -> None:
    close_comparisons([assignment.comparison])
    assert judging.get(page_of(assignment)).status_code == 200


def test_two_stories_have_no_worst(judging: Client, expert: Expert) -> None:
    make_comparison(2)
    page = html(judging.get(page_of(next_assignment(expert=expert))))
    assert page.count('name="best"') == 2
    assert 'name="worst"' not in page


def test_without_work_the_page_says_so(judging: Client) -> None:
    response = judging.get(reverse("judge"))
    assert response.status_code == 200
    assert "Nothing to judge now" in html(response)


@pytest.mark.parametrize(("judged", "says"), [(0, "judged 0 comparisons"), (1, "judged 1 comparison so")])
def test_the_last_page_counts_what_was_judged(judging: Client, expert: Expert, judged: int, says: str) -> None:
    for _ in range(judged):
        make_comparison()
        record_judgement(assignment=next_assignment(expert=expert), verdict="tie")
    assert says in html(judging.get(reverse("judge")))


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
    names = ["quagga", "preference", "evaluation", "baseline", "policy", "round", "seed", "99000"]
    assert "fox." in sent
    assert [word for word in [*names, *map(str, SECRETS.values())] if word in sent] == []
    assert set(re.findall(UUID, sent)) == {str(assignment.key)}


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7|add:7 }}</div>"])
def test_what_a_model_wrote_is_text_and_never_markup(judging: Client, assignment: Assignment, text: str) -> None:
    Story.objects.filter(pk=assignment.shown[0]).update(text=text)
    page = html(judging.get(page_of(assignment)))
    assert text.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;") in page
    if "<" in text:
        assert text not in page


def test_what_a_prompt_says_is_text_and_never_markup(judging: Client, assignment: Assignment) -> None:
    Prompt.objects.update(text="<script>alert(1)</script>")
    assert "<script>alert" not in html(judging.get(page_of(assignment)))


@pytest.mark.parametrize("path", ["/judge/", "/log-in/", "/judge/no-such-page/", "/", "/rounds/"])
@pytest.mark.parametrize("known", [True, False], ids=["expert", "anonymous"])
def test_every_page_forbids_inline_script_and_other_hosts(expert: Expert, path: str, known: bool) -> None:
    browser = Client()
    if known:
        browser.force_login(expert.user)
    policy = browser.get(path)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_judging_page_has_no_inline_script_or_style(judging: Client, assignment: Assignment) -> None:
    page = html(judging.get(page_of(assignment)))
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page) == []


def test_the_judging_page_forbids_inline_script(judging: Client, assignment: Assignment) -> None:
    assert "script-src 'self'" in judging.get(page_of(assignment))["Content-Security-Policy"]


def test_no_judging_page_is_kept_by_a_browser(judging: Client, expert: Expert) -> None:
    nothing = judging.get(reverse("judge"))
    make_comparison()
    leads_on = judging.get(reverse("judge"))
    page = judging.get(leads_on["Location"])
    for response in (nothing, leads_on, page):
        assert "no-store" in response["Cache-Control"]


# what they answer


def test_an_answer_without_javascript_is_kept_and_leads_on(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment, best=2, worst=1, reason="It is kinder.")
    assert (response.status_code, response["Location"]) == (302, reverse("judge"))
    assert [rank.rank for rank in assignment.judgement.ranks.all()] == [3, 1, 2]
    assert assignment.judgement.reason == "It is kinder."


def test_a_full_order_is_kept(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, rank_1=2, rank_2=3, rank_3=1)
    assert [rank.rank for rank in assignment.judgement.ranks.all()] == [2, 3, 1]


def test_the_ranks_are_of_the_stories_as_the_page_showed_them(judging: Client, assignment: Assignment) -> None:
    shown = re.findall(r'<div class="story"[^>]*>(.*?)</div>', html(judging.get(page_of(assignment))))
    submit(judging, assignment, best=3)
    assert assignment.judgement.ranks.get(rank=1).story.text == shown[2]


def test_a_tie_is_kept(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, verdict="tie")
    assert assignment.judgement.verdict == "tie"


def test_an_answer_is_thanked_for(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, best=1)
    assert messages_in(judging.get(reverse("judge"))) == ["Saved. Thank you!"]


def test_a_late_answer_is_said_to_be_an_extra(settings, judging: Client, expert: Expert, expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    next_assignment(expert=make_expert())
    submit(judging, late, best=1)
    assert "Saved as an extra" in messages_in(judging.get(reverse("judge")))[0]


def test_a_second_answer_says_that_the_first_stands(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, best=1)
    judging.get(reverse("judge"))
    submit(judging, assignment, best=2)
    assert "the first one stands" in messages_in(judging.get(reverse("judge")))[0]
    assert assignment.judgement.ranks.get(rank=1).shown_position == 1


def test_a_judged_comparison_is_not_shown_again(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, best=1)
    judging.get(reverse("judge"))
    response = judging.get(page_of(assignment), follow=True)
    assert response.redirect_chain == [(reverse("judge"), 302)]
    assert "judged that comparison already" in messages_in(response)[0]


def test_with_htmx_an_answer_brings_the_next_comparison(
    judging: Client, expert: Expert, assignment: Assignment
) -> None:
    make_comparison()
    response = submit(judging, assignment, htmx=True, best=1)
    following = next_assignment(expert=expert)
    assert response["HX-Push-Url"] == page_of(following) != page_of(assignment)
    assert reverse("submit_judgement", args=[following.key]) in html(response)


def test_with_htmx_an_answer_brings_a_fragment_with_its_message(judging: Client, assignment: Assignment) -> None:
    make_comparison()
    response = submit(judging, assignment, htmx=True, best=1)
    assert html(response).strip().startswith('<section id="work"')
    assert "<html" not in html(response)
    assert messages_in(response) == ["Saved. Thank you!"]


def test_with_htmx_the_last_answer_brings_nothing_to_judge(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment, htmx=True, best=1)
    assert response["HX-Push-Url"] == reverse("judge")
    assert "Nothing to judge now" in html(response)
    assert "<html" not in html(response)


@pytest.mark.parametrize("htmx", [False, True])
def test_an_unclear_answer_is_sent_back_with_the_choices_kept(
    judging: Client, assignment: Assignment, htmx: bool
) -> None:
    response = submit(judging, assignment, htmx=htmx, best=2, worst=2, reason="So <kind>")
    assert (response.status_code, Judgement.objects.count()) == (422, 0)
    assert "cannot be both the best and the worst" in html(response)
    assert checked(response) == {("best", "2"), ("worst", "2")}
    assert "So &lt;kind&gt;</textarea>" in html(response)


def test_an_unclear_order_is_sent_back_with_the_ranks_kept(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment, rank_1=1, rank_2=1, rank_3=1)
    assert response.status_code == 422
    assert html(response).count("<option selected>1</option>") == 3
    assert "<details open>" in html(response)


def test_a_half_order_is_sent_back_with_its_ranks_in_sight(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment, rank_2=1)
    assert response.status_code == 422
    assert "<details open>" in html(response)


def test_no_choice_is_sent_back(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment)
    assert (response.status_code, checked(response)) == (422, set())
    assert "Choose the best story first." in html(response)


def test_an_unclear_answer_leaves_the_comparison_open(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment)
    assert judging.get(reverse("judge"))["Location"] == page_of(assignment)


def test_a_skipped_comparison_goes_to_somebody_else(judging: Client, assignment: Assignment) -> None:
    assert skip(judging, assignment)["Location"] == reverse("judge")
    assert "Nothing to judge now" in html(judging.get(reverse("judge")))
    assert next_assignment(expert=make_expert()).comparison == assignment.comparison


def test_with_htmx_a_skip_brings_the_next_comparison(judging: Client, expert: Expert, assignment: Assignment) -> None:
    make_comparison()
    response = skip(judging, assignment, **HTMX)
    assert response["HX-Push-Url"] == page_of(next_assignment(expert=expert)) != page_of(assignment)
    assert messages_in(response) == ["Skipped. Somebody else will judge it."]


def test_the_back_button_brings_a_whole_page(judging: Client, assignment: Assignment) -> None:
    response = judging.get(page_of(assignment), HTTP_HX_HISTORY_RESTORE_REQUEST="true", **HTMX)
    assert "<html" in html(response)


def test_with_htmx_a_log_in_that_ran_out_is_no_fragment_of_the_page(client: Client, assignment: Assignment) -> None:
    response = submit(client, assignment, htmx=True, best=1)
    assert "HX-Redirect" in response or response.status_code >= 400


def test_who_logs_in_again_after_an_answer_is_back_at_work(
    client: Client, expert: Expert, assignment: Assignment
) -> None:
    log_in = submit(client, assignment, best=1)["Location"]
    who = {"username": expert.user.get_username(), "password": "a long password"}
    assert client.post(log_in, who, follow=True).status_code == 200
