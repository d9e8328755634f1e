"""The admins' pages about judging."""

import re
from datetime import timedelta

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.gold import make_gold, retire_gold
from annotate.judgements import undo_judgement
from annotate.models import Assignment, Campaign, Comparison, Expert, Gold, Judgement, Kind, Report
from annotate.models.reports import Outcome
from annotate.queue import next_assignment
from annotate.reports import settle
from generation.models import Story
from tests.annotate.answering import answer, story
from tests.factories import make_comparison, make_expert, make_prompt

pytestmark = pytest.mark.django_db
PAGES = ("judging", "experts", "reports", "disagreements", "gold")
ACTS = ("save_campaign", "settle_report", "send_to_adjudicator", "add_gold", "remove_gold")
NUMBERED = ACTS[1:]
CAMPAIGN = {"criteria": ["structure", "creativity"], "practice": "on", "gold_every": "10", "repeat_every": "0"}
CAMPAIGN |= {"evaluation_share": "45", "guidelines_en": "Read aloud.", "guidelines_zh": "请朗读。"}


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


@pytest.fixture
def boss(admin: Client, django_user_model):
    return django_user_model.objects.get(username="boss")


def address(name: str, number: int = 1) -> str:
    return reverse(name, args=[number] if name in NUMBERED else [])


def text(response: HttpResponse) -> str:
    return response.content.decode()


def said(response: HttpResponse) -> str:
    """What the page that a POST leads to says of it."""
    return " ".join(re.findall(r'<p class="message \w+">(.*?)</p>', text(response)))


def row(response: HttpResponse, expert: Expert) -> str:
    """The expert's row of a table, as plain text."""
    (found,) = re.findall(rf'<th scope="row">{expert} .*?</tr>', text(response), re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<.*?>", " ", found))


def judged(*orders: str, stories: int = 3, **given: object) -> Comparison:
    comparison = make_comparison(stories, **given)
    for order in orders:
        answer(make_expert(), comparison, order)
    return comparison


def report(verdict: str = "unsafe", *, stories: int = 3, reason: str = "a knife") -> Report:
    comparison = make_comparison(stories)
    judgement = answer(make_expert(), comparison, verdict, shown="ABCDE"[:stories], unsafe=frozenset({1}))
    Report.objects.update(note=reason)
    return Report.objects.get(assignment=judgement.assignment)


class TestWhoGetsIn:
    @pytest.mark.parametrize("name", PAGES)
    def test_an_admin_sees_the_page_before_anything_happened(self, admin: Client, name: str) -> None:
        assert admin.get(address(name)).status_code == 200

    @pytest.mark.parametrize("name", PAGES + ACTS)
    def test_an_expert_is_refused(self, judging: Client, name: str) -> None:
        method = judging.get if name in PAGES else judging.post
        assert method(address(name)).status_code == 403

    @pytest.mark.parametrize("name", PAGES)
    def test_a_page_takes_no_post(self, admin: Client, name: str) -> None:
        assert admin.post(address(name)).status_code == 405

    @pytest.mark.parametrize("name", ACTS)
    def test_nothing_changes_by_get(self, admin: Client, name: str) -> None:
        assert admin.get(address(name)).status_code == 405

    @pytest.mark.parametrize("name", NUMBERED)
    def test_an_unknown_number_is_not_found(self, admin: Client, name: str) -> None:
        assert admin.post(address(name, 999_999), {"outcome": "upheld"}).status_code == 404

    @pytest.mark.parametrize("name", PAGES)
    def test_the_way_between_the_pages_names_where_one_is(self, admin: Client, name: str) -> None:
        assert f'href="{address(name)}" aria-current="page"' in text(admin.get(address(name)))


class TestJudging:
    def test_it_counts_what_is_open_and_what_was_done(self, admin: Client, settings) -> None:
        settings.PLACES_PER_COMPARISON = 3
        judged("A > B > C")
        answer(make_expert(simulated=True), make_comparison(), "tie")
        context = admin.get(address("judging")).context
        assert (context["today"], context["week"], context["week_by_people"]) == (2, 2, 1)
        assert context["open_places"] == 4

    def test_a_judgement_of_a_week_ago_is_not_of_the_last_seven_days(self, admin: Client) -> None:
        judged("A > B > C", "tie")
        recent, old = Judgement.objects.all()
        Judgement.objects.filter(pk=recent.pk).update(created_at=timezone.now() - timedelta(days=6))
        Judgement.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=7))
        context = admin.get(address("judging")).context
        assert (context["today"], context["week"]) == (0, 1)

    def test_it_counts_what_wants_a_decision(self, admin: Client, boss) -> None:
        report("cannot_rank")
        judged("A > B > C", "C > B > A")
        make_gold(comparison=judged("A > B > C", "A > B > C"), by=boss)
        context = admin.get(address("judging")).context
        assert (context["unsettled"], context["disagreements"], context["golds"]) == (1, 1, 1)

    def test_without_work_it_says_where_work_comes_from(self, admin: Client) -> None:
        assert "experts have no work" in text(admin.get(address("judging")))

    def test_the_form_shows_what_holds_now(self, admin: Client) -> None:
        Campaign.objects.create(pk=1, criteria=["creativity"], gold_every=33)
        page = text(admin.get(address("judging")))
        assert re.findall(r'name="criteria" value="(\w+)"[^>]* checked', page) == ["creativity"]
        assert 'name="gold_every" value="33"' in page


class TestSaveCampaign:
    def save(self, admin: Client, **changed: object) -> HttpResponse:
        return admin.post(address("save_campaign"), {**CAMPAIGN, **changed}, follow=True)

    def test_it_keeps_what_was_set(self, admin: Client) -> None:
        response = self.save(admin)
        campaign = Campaign.current()
        assert (campaign.criteria, campaign.criteria_required) == (["structure", "creativity"], False)
        assert (campaign.practice, campaign.gold_every, campaign.repeat_every) == (True, 10, 0)
        assert (campaign.guidelines_en, campaign.guidelines_zh) == ("Read aloud.", "请朗读。")
        assert said(response).startswith("Saved.")

    def test_no_criterion_at_all_is_a_choice(self, admin: Client) -> None:
        self.save(admin, criteria=[])
        assert Campaign.current().criteria == []

    @pytest.mark.parametrize(
        "changed",
        [
            {"gold_every": "1"},
            {"repeat_every": "1"},
            {"gold_every": "1001"},
            {"gold_every": "-1"},
            {"gold_every": ""},
            {"criteria": ["beauty"]},
            {"criteria": [], "criteria_required": "on"},
            {"gold_every": "3", "repeat_every": "3"},
            {"guidelines_en": "x" * 20_001},
        ],
    )
    def test_what_makes_no_sense_is_said_at_the_field_and_not_kept(self, admin: Client, changed: dict) -> None:
        response = self.save(admin, **changed)
        assert response.status_code == 422
        assert "errorlist" in text(response)
        assert Campaign.current().gold_every == 20

    @pytest.mark.parametrize("every", ["0", "2", "1000"])
    def test_a_share_is_none_or_one_in_two_to_a_thousand(self, admin: Client, every: str) -> None:
        self.save(admin, gold_every=every)
        assert Campaign.current().gold_every == int(every)

    def test_what_was_entered_is_still_there_after_a_mistake(self, admin: Client) -> None:
        response = self.save(admin, gold_every="1", guidelines_en="Take your time.")
        assert "Take your time." in text(response)


class TestExperts:
    def test_everybody_has_a_row(self, admin: Client) -> None:
        expert = make_expert("writer")
        for _ in range(5):
            answer(expert, make_comparison(2), "A > B", seconds=0.0, shown="AB")
        Judgement.objects.update(seconds=95)
        shown = row(admin.get(address("experts")), expert)
        assert shown.startswith(f" {expert} writer 5 95 s ")
        assert "100 % 5 of 5 by chance 50 %" in shown
        assert shown.strip().endswith("ranked 5")

    def test_a_few_answers_make_no_percentage(self, admin: Client) -> None:
        expert = make_expert()
        answer(expert, make_comparison(2), "A > B")
        shown = row(admin.get(address("experts")), expert)
        assert "not enough yet n = 1" in shown
        assert "%" not in shown

    def test_simulated_experts_are_marked(self, admin: Client) -> None:
        simulated, person = make_expert(simulated=True), make_expert()
        response = admin.get(address("experts"))
        assert "simulated" in row(response, simulated)
        assert "simulated" not in row(response, person)

    def test_without_experts_it_says_what_to_do(self, admin: Client) -> None:
        assert "Invite your first experts" in text(admin.get(address("experts")))

    def test_it_says_that_disagreement_is_mostly_not_noise(self, admin: Client) -> None:
        make_expert()
        assert "disagreement is mostly taste, not noise" in text(admin.get(address("experts")))


class TestReports:
    def test_it_shows_the_story_in_its_language_the_note_and_who(self, admin: Client) -> None:
        found = report()
        page = text(admin.get(address("reports")))
        assert f'lang="en">{found.story.text}</p>' in page
        assert "a knife" in page
        assert str(found.assignment.expert) in page

    def test_of_what_cannot_be_ranked_it_shows_all_stories(self, admin: Client) -> None:
        report("cannot_rank", stories=4)
        page = text(admin.get(address("reports")))
        assert all(found.text in page for found in Story.objects.all())

    def test_a_story_of_words_like_markup_is_shown_as_words(self, admin: Client) -> None:
        found = report()
        Story.objects.filter(pk=found.story_id).update(text="<b>fox</b>")
        assert "&lt;b&gt;fox&lt;/b&gt;" in text(admin.get(address("reports")))

    def test_what_is_settled_stands_below_with_who_settled_it(self, admin: Client, boss) -> None:
        settle(report=report(), by=boss, upheld=True)
        waiting = report()
        response = admin.get(address("reports"))
        assert [r.report for r in response.context["unsettled"]] == [waiting]
        assert "<td>upheld</td>\n        <td>boss</td>" in text(response)

    def test_with_nothing_to_settle_it_says_what_would_stand_here(self, admin: Client) -> None:
        assert "Nothing to settle." in text(admin.get(address("reports")))


class TestSettleReport:
    def settle(self, admin: Client, found: Report, outcome: str = "upheld") -> str:
        return said(admin.post(address("settle_report", found.pk), {"outcome": outcome}, follow=True))

    @pytest.mark.parametrize(
        ("verdict", "outcome", "words"),
        [
            ("unsafe", "upheld", "stays out of the queue and of every export"),
            ("unsafe", "dismissed", "the story is back in the queue"),
            ("cannot_rank", "upheld", "the comparison is closed"),
            ("cannot_rank", "dismissed", "the comparison goes on"),
        ],
    )
    def test_it_settles_and_says_what_happened(
        self, admin: Client, boss, verdict: str, outcome: str, words: str
    ) -> None:
        found = report(verdict)
        assert words in self.settle(admin, found, outcome)
        found.refresh_from_db()
        assert (found.outcome, found.settled_by) == (outcome, boss)

    def test_the_second_time_says_who_settled_it(self, admin: Client, boss) -> None:
        found = report()
        settle(report=found, by=boss, upheld=False)
        assert "boss has settled this report before: dismissed." in self.settle(admin, found)
        found.refresh_from_db()
        assert found.outcome == Outcome.DISMISSED

    def test_what_the_expert_took_back_is_settled_already(self, admin: Client) -> None:
        found = report()
        undo_judgement(assignment=found.assignment)
        assert "The expert has taken this report back." in self.settle(admin, found)

    def test_a_story_that_another_report_keeps_out_is_not_said_to_be_back(self, admin: Client) -> None:
        found = report()
        answer(make_expert(), found.assignment.comparison, "unsafe", shown="ABC", unsafe=frozenset({1}))
        assert "another report on it stands" in self.settle(admin, found, "dismissed")

    @pytest.mark.parametrize("outcome", ["", "taken_back", "nonsense"])
    def test_it_knows_two_decisions_only(self, admin: Client, outcome: str) -> None:
        found = report()
        assert "Uphold the report or dismiss it." in self.settle(admin, found, outcome)
        found.refresh_from_db()
        assert found.outcome == ""


class TestDisagreements:
    def test_it_shows_the_stories_and_everybodys_order(self, admin: Client) -> None:
        comparison = judged("A > B > C", "C > A = B")
        page = text(admin.get(address("disagreements")))
        assert all(found.text in page for found in comparison.stories.all())
        assert "<td>A &gt; B &gt; C</td>" in page
        assert "<td>C &gt; A = B</td>" in page

    def test_who_may_decide_can_be_chosen(self, admin: Client, expert: Expert) -> None:
        judged("A > B > C", "C > B > A")
        (shown,) = admin.get(address("disagreements")).context["rows"]
        assert [pk for pk, _ in shown.form.fields["expert"].choices] == ["", expert.pk]

    def test_if_nobody_may_it_says_so(self, admin: Client) -> None:
        judged("A > B > C", "C > B > A")
        assert "make an expert one under People" in text(admin.get(address("disagreements")))

    def test_an_admin_who_is_still_to_judge_it_sees_no_order(self, admin: Client, boss) -> None:
        judged("A > B > C", "C > B > A")
        Expert.objects.create(user=boss, audience="writer")
        page = text(admin.get(address("disagreements")))
        assert "stays hidden from you" in page
        assert "A &gt; B" not in page

    def test_an_admin_who_has_judged_it_sees_all_orders(self, admin: Client, boss) -> None:
        comparison = judged("A > B > C", "C > B > A")
        answer(Expert.objects.create(user=boss, audience="writer"), comparison, "B > A > C")
        assert "A &gt; B" in text(admin.get(address("disagreements")))

    def test_what_an_adjudicator_has_stands_below(self, admin: Client, expert: Expert) -> None:
        answer(expert, judged("A > B > C", "C > B > A"), "A > B > C", kind=Kind.ADJUDICATION)
        response = admin.get(address("disagreements"))
        assert response.context["rows"] == []
        assert "decided" in text(response)

    def test_its_queries_do_not_grow_with_the_disagreements(
        self, admin: Client, expert: Expert, django_assert_max_num_queries
    ) -> None:
        for _ in range(4):
            judged("A > B > C", "C > B > A")
        with django_assert_max_num_queries(14):
            admin.get(address("disagreements"))


class TestSendToAdjudicator:
    def send(self, admin: Client, comparison: Comparison, expert: Expert | str) -> str:
        data = {"expert": expert.pk if isinstance(expert, Expert) else expert}
        return said(admin.post(address("send_to_adjudicator", comparison.pk), data, follow=True))

    def test_the_expert_gets_it_as_the_next(self, admin: Client, expert: Expert) -> None:
        comparison = judged("A > B > C", "C > B > A")
        assert "gets it as the next comparison" in self.send(admin, comparison, expert)
        assert next_assignment(expert=expert).kind == Kind.ADJUDICATION

    def test_nobody_chosen_is_said(self, admin: Client, expert: Expert) -> None:
        assert "Choose an expert first." in self.send(admin, judged("A > B > C", "C > B > A"), "")
        assert not Assignment.objects.filter(kind=Kind.ADJUDICATION).exists()

    def test_whoever_has_judged_it_cannot_decide_it(self, admin: Client) -> None:
        comparison = judged("A > B > C", "C > B > A")
        judge = comparison.assignments.first().expert
        assert "cannot decide it any more" in self.send(admin, comparison, judge)

    def test_it_is_sent_once(self, admin: Client, expert: Expert) -> None:
        comparison, other = judged("A > B > C", "C > B > A"), make_expert()
        self.send(admin, comparison, expert)
        assert "an adjudicator already" in self.send(admin, comparison, other)


class TestGold:
    def test_it_shows_the_candidates_with_their_answer(self, admin: Client) -> None:
        judged("B > A > C", "B > A > C")
        page = text(admin.get(address("gold")))
        assert "Best: B, worst: C." in page
        assert "2 judgements" in page

    def test_simulated_judgements_are_told_apart(self, admin: Client) -> None:
        answer(make_expert(simulated=True), judged("B > A > C", "B > A > C"), "B > A > C")
        assert "3 judgements (1 simulated)" in text(admin.get(address("gold")))

    def test_without_any_it_says_when_there_will_be(self, admin: Client) -> None:
        assert "None now." in text(admin.get(address("gold")))

    def test_used_and_retired_stand_apart(self, admin: Client, boss) -> None:
        used = make_gold(comparison=judged("A > B > C", "A > B > C"), by=boss)
        retired = make_gold(comparison=judged("A > B > C", "A > B > C"), by=boss)
        retire_gold(retired)
        context = admin.get(address("gold")).context
        assert [shown.gold for shown in context["used"]] == [used]
        assert [shown.gold for shown in context["retired"]] == [retired]

    def test_an_admin_who_is_still_to_judge_it_is_not_told_the_answer(self, admin: Client, boss) -> None:
        judged("B > A > C", "B > A > C")
        Expert.objects.create(user=boss, audience="writer")
        page = text(admin.get(address("gold")))
        assert "Best: B" not in page
        assert "B &gt; A" not in page

    def test_add_gold_makes_it_known(self, admin: Client, boss) -> None:
        comparison = judged("A > B > C", "A > B > C")
        response = admin.post(address("add_gold", comparison.pk), follow=True)
        assert "silently" in said(response)
        assert (Gold.objects.get().best, Gold.objects.get().made_by) == (story(comparison, "A"), boss)

    def test_remove_gold_retires_it(self, admin: Client, boss) -> None:
        made = make_gold(comparison=judged("A > B > C", "A > B > C"), by=boss)
        assert "Retired" in said(admin.post(address("remove_gold", made.pk), follow=True))
        assert Gold.objects.get().retired_at


def test_a_chinese_story_is_marked_as_chinese(admin: Client) -> None:
    judged("A > B > C", "C > B > A", prompt=make_prompt("写一个故事。", language="zh"))
    assert '<p class="story" lang="zh">' in text(admin.get(address("disagreements")))
