"""The experts' pages, as a browser sees them: with htmx and without JavaScript."""

import re
import uuid

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.comparisons import close_comparisons
from annotate.judgements import record_judgement
from annotate.models import Assignment, Expert, Judgement
from annotate.queue import next_assignment
from generation.models import Prompt, Story
from tests.annotate.browsing import HTMX, address, checked, html, messages_in, page_of, shown_texts, skip, submit
from tests.factories import make_comparison, make_expert

pytestmark = pytest.mark.django_db
PAGES = ("judge_comparison", "submit_judgement", "skip_comparison")


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


def test_judge_shows_the_experts_comparison(judging: Client, assignment: Assignment) -> None:
    for _ in range(2):
        assert address(judging.get(reverse("judge"))) == reverse("submit_judgement", args=[assignment.key])


def test_judge_takes_a_place(judging: Client, expert: Expert) -> None:
    make_comparison()
    judging.get(reverse("judge"))
    assert Assignment.objects.unanswered().get().expert == expert


def test_the_stories_stand_in_the_order_kept(judging: Client, assignment: Assignment) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(shown=assignment.shown[::-1])
    assignment.refresh_from_db()
    assert shown_texts(judging.get(page_of(assignment))) == [story.text for story in assignment.stories()]


def test_a_storys_paragraphs_know_where_they_begin(judging: Client, assignment: Assignment) -> None:
    text = "\n从前，🦊来了。\r\n\n  The end."
    Story.objects.filter(pk=assignment.shown[0]).update(text=text)
    found = re.findall(r'<p data-start="(\d+)">(.*?)</p>', html(judging.get(page_of(assignment))))
    assert found[:2] == [("1", "从前，🦊来了。"), (str(text.index("  The end.")), "  The end.")]


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
    first = judging.get(reverse("judge"))
    page = judging.get(page_of(Assignment.objects.get()))
    for response in (nothing, first, page):
        assert "no-store" in response["Cache-Control"]


# what they answer


def test_an_answer_without_javascript_is_kept_and_leads_on(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment, best=2, worst=1, reason="It is kinder.")
    assert (response.status_code, response["Location"]) == (302, f"{reverse('judge')}?done={assignment.key}")
    assert [rank.rank for rank in assignment.judgement.ranks.all()] == [3, 1, 2]
    assert assignment.judgement.reason == "It is kinder."


def test_a_full_order_is_kept(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, rank_1=2, rank_2=3, rank_3=1)
    assert [rank.rank for rank in assignment.judgement.ranks.all()] == [2, 3, 1]


def test_the_ranks_are_of_the_stories_as_the_page_showed_them(judging: Client, assignment: Assignment) -> None:
    shown = shown_texts(judging.get(page_of(assignment)))
    submit(judging, assignment, best=3)
    assert assignment.judgement.ranks.get(rank=1).story.text == shown[2]


def test_a_tie_is_kept(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, verdict="tie")
    assert assignment.judgement.verdict == "tie"


def test_an_answer_is_thanked_for(judging: Client, assignment: Assignment) -> None:
    after = submit(judging, assignment, best=1)["Location"]
    assert messages_in(judging.get(after)) == ["Saved. Thank you!"]


def test_a_late_answer_is_said_to_be_an_extra(settings, judging: Client, expert: Expert, expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    next_assignment(expert=make_expert())
    after = submit(judging, late, best=1)["Location"]
    assert "Saved as an extra" in messages_in(judging.get(after))[0]


def test_a_second_answer_says_that_the_first_stands(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, best=1)
    response = submit(judging, assignment, htmx=True, best=2)
    assert "the first one stands" in messages_in(response)[0]
    assert assignment.judgement.ranks.get(rank=1).shown_position == 1


def test_a_judged_comparison_is_not_shown_again(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, best=1)
    response = judging.get(page_of(assignment))
    assert "judged that comparison already" in html(response)
    assert 'id="judgement"' not in html(response)


def test_a_comparison_whose_stories_have_left_leads_to_the_next(judging: Client, assignment: Assignment) -> None:
    Story.objects.filter(pk__in=assignment.shown[:2]).update(withdrawn_at=timezone.now())
    response = judging.get(page_of(assignment), follow=True)
    assert response.redirect_chain == [(reverse("judge"), 302)]
    assert "have left the queue" in html(response)


def test_a_story_that_has_left_is_not_shown_any_more(judging: Client, assignment: Assignment) -> None:
    gone = assignment.stories()[1]
    Story.objects.filter(pk=gone.pk).update(withdrawn_at=timezone.now())
    page = html(judging.get(page_of(assignment)))
    assert gone.text not in page
    assert re.findall(r'name="best" value="(\d)"', page) == ["1", "3"]


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
    assert '<details class="fold" id="order" open>' in html(response)


def test_a_half_order_is_sent_back_with_its_ranks_in_sight(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment, rank_2=1)
    assert response.status_code == 422
    assert '<details class="fold" id="order" open>' in html(response)


def test_no_choice_is_sent_back(judging: Client, assignment: Assignment) -> None:
    response = submit(judging, assignment)
    assert (response.status_code, checked(response)) == (422, set())
    assert "Choose the best story first." in html(response)


def test_an_unclear_answer_leaves_the_comparison_open(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment)
    assert address(judging.get(reverse("judge"))) == reverse("submit_judgement", args=[assignment.key])


def test_a_skipped_comparison_goes_to_somebody_else(judging: Client, assignment: Assignment) -> None:
    after = judging.get(skip(judging, assignment)["Location"])
    assert "Nothing to judge now" in html(after)
    assert messages_in(after) == ["Skipped. Somebody else will judge it."]
    assert next_assignment(expert=make_expert()).comparison == assignment.comparison


def test_with_htmx_a_skip_brings_the_next_comparison(judging: Client, expert: Expert, assignment: Assignment) -> None:
    make_comparison()
    response = skip(judging, assignment, htmx=True)
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
