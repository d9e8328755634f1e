"""What experts see of their own work: their answers, the sitting, what suits them; figures after the vote only."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.judgements import record_judgement, undo_judgement
from annotate.models import Assignment, Expert, Kind
from annotate.queue import next_assignment
from annotate.views.own import PER_PAGE, last_sitting
from annotate.views.page import paragraphs, said
from tests.annotate.answering import answer
from tests.annotate.browsing import HTMX, html, keep, open_tab, page_of, post, submit
from tests.factories import make_comparison, make_expert, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


def judged(expert: Expert, verdict: str = "tie", *, ago: float = 0, took: float = 1) -> Assignment:
    """A comparison that `expert` answered `ago` minutes ago, after `took` minutes."""
    make_comparison()
    assignment = next_assignment(expert=expert)
    ranks = {1: 1, 2: 2, 3: 3} if verdict == "ranked" else None
    record_judgement(assignment=assignment, verdict=verdict, ranks=ranks)
    when = timezone.now() - timedelta(minutes=ago)
    times = {"answered_at": when, "opened_at": when - timedelta(minutes=took)}
    Assignment.objects.filter(pk=assignment.pk).update(**times)
    assignment.refresh_from_db()
    return assignment


def listed(page: str) -> list[str]:
    """The prompts in the list of answers, from the top."""
    return re.findall(r'<td lang="en"><a href="[^"]+">(.*?)</a>', page)


class TestMyAnswers:
    def test_the_newest_stands_first(self, judging: Client, expert: Expert) -> None:
        old, new = judged(expert, ago=5), judged(expert)
        page = html(judging.get(reverse("my_judgements")))
        assert listed(page) == [new.comparison.prompt.text, old.comparison.prompt.text]

    def test_each_says_what_was_answered_and_can_be_changed(self, judging: Client, expert: Expert) -> None:
        assignment = judged(expert, "all_bad")
        page = html(judging.get(reverse("my_judgements")))
        assert "<td>all bad</td>" in page
        assert reverse("edit_judgement", args=[assignment.key]) in page

    def test_nobody_elses_are_there(self, judging: Client) -> None:
        judged(make_expert())
        assert "You have not judged anything yet." in html(judging.get(reverse("my_judgements")))

    def test_what_was_taken_back_is_gone(self, judging: Client, expert: Expert) -> None:
        undo_judgement(assignment=judged(expert))
        assert listed(html(judging.get(reverse("my_judgements")))) == []

    def test_they_come_in_pages(self, judging: Client, expert: Expert) -> None:
        comparisons = [make_comparison(2) for _ in range(PER_PAGE + 2)]
        for comparison in comparisons:
            answer(expert, comparison, "tie")
        first, second = (html(judging.get(reverse("my_judgements"), {"page": number})) for number in (1, 2))
        assert (len(listed(first)), len(listed(second))) == (PER_PAGE, 2)
        assert "?page=2" in first
        assert "?page=1" in second

    @pytest.mark.parametrize("number", ["0", "99", "x", "-1"])
    def test_a_page_that_is_none_is_the_nearest(self, judging: Client, expert: Expert, number: str) -> None:
        judged(expert)
        assert len(listed(html(judging.get(reverse("my_judgements"), {"page": number})))) == 1

    def test_a_page_costs_the_same_however_many_answers(
        self, judging: Client, expert: Expert, django_assert_max_num_queries
    ) -> None:
        for _ in range(10):
            answer(expert, make_comparison(2), "tie")
        with django_assert_max_num_queries(20):
            judging.get(reverse("my_judgements"))


class TestSitting:
    def test_answers_without_a_long_pause_are_one_sitting(self, expert: Expert) -> None:
        given = [judged(expert, ago=minutes) for minutes in (70, 45, 20)]
        assert last_sitting(expert) == given[::-1]

    def test_half_an_hours_pause_ends_a_sitting(self, expert: Expert) -> None:
        judged(expert, ago=60)
        later = judged(expert, ago=29)
        assert last_sitting(expert) == [later]

    def test_a_sitting_of_long_ago_is_over(self, expert: Expert) -> None:
        judged(expert, ago=31)
        assert last_sitting(expert) == []

    def test_its_summary_counts_answers_pairs_and_minutes(self, judging: Client, expert: Expert) -> None:
        judged(expert, "ranked", ago=10, took=5)
        judged(expert, "tie")
        page = html(judging.get(reverse("sitting_summary")))
        assert "you judged 2 comparisons" in page
        assert "says 3 times which of two" in page
        assert "about 15 minutes" in page

    def test_its_summary_counts_reasons_of_all_kinds(self, judging: Client, expert: Expert) -> None:
        for sent in ({"reason": "Kind."}, {"reasons_for": "right_words"}, {"reasons_against": "no_ending"}, {}):
            make_comparison()
            submit(judging, next_assignment(expert=expert), best=1, **sent)
        assert "gave a reason 3 times" in html(judging.get(reverse("sitting_summary")))

    def test_without_answers_it_says_so(self, judging: Client) -> None:
        assert "not judged anything in the last half hour" in html(judging.get(reverse("sitting_summary")))

    def test_it_says_how_far_all_have_come(self, settings, judging: Client, expert: Expert) -> None:
        settings.PLACES_PER_COMPARISON = 3
        judged(expert)
        assert "1 of 3 judgements" in html(judging.get(reverse("sitting_summary")))

    def test_it_leads_to_what_was_begun(self, judging: Client, expert: Expert) -> None:
        make_comparison()
        begun = next_assignment(expert=expert)
        page = html(judging.get(reverse("sitting_summary")))
        assert page_of(begun) not in page
        keep(judging, begun, best=1, **open_tab(judging, begun))
        assert page_of(begun) in html(judging.get(reverse("sitting_summary")))

    def test_it_does_not_lead_to_what_was_skipped(self, judging: Client, expert: Expert) -> None:
        make_comparison()
        begun = next_assignment(expert=expert)
        keep(judging, begun, best=1, **open_tab(judging, begun))
        post(judging, "skip_comparison", begun)
        assert page_of(begun) not in html(judging.get(reverse("sitting_summary")))


class TestPreferences:
    def save(self, judging: Client, *, htmx: bool = False, **sent: object) -> object:
        return judging.post(reverse("save_preferences"), sent, **(HTMX if htmx else {}))

    def stored(self, expert: Expert) -> tuple[bool, list[str]]:
        expert.refresh_from_db()
        return expert.keys_enabled, expert.languages

    def test_keys_can_be_turned_off_and_on(self, judging: Client, expert: Expert) -> None:
        self.save(judging, keys_asked=1)
        assert not self.stored(expert)[0]
        self.save(judging, keys_asked=1, keys_enabled=1)
        assert self.stored(expert)[0]

    def test_the_judging_page_knows_it(self, judging: Client, expert: Expert) -> None:
        make_comparison()
        self.save(judging, keys_asked=1)
        assert 'data-keys="off"' in html(judging.get(reverse("judge")))

    def test_the_languages_can_be_chosen(self, judging: Client, expert: Expert) -> None:
        self.save(judging, languages_asked=1, languages=["zh"])
        assert self.stored(expert) == (True, ["zh"])

    def test_who_reads_one_language_is_given_no_other(self, judging: Client, expert: Expert) -> None:
        make_comparison(prompt=make_prompt(language="zh"))
        self.save(judging, languages_asked=1, languages=["en"])
        expert.refresh_from_db()
        assert next_assignment(expert=expert) is None
        english = make_comparison()
        assert next_assignment(expert=expert).comparison == english

    @pytest.mark.parametrize("languages", [[], ["fr"], ["en", "fr"]])
    def test_nobody_reads_nothing_or_what_there_is_not(
        self, judging: Client, expert: Expert, languages: list[str]
    ) -> None:
        self.save(judging, languages_asked=1, languages=languages)
        assert self.stored(expert)[1] == ["en", "zh"]

    def test_what_a_form_does_not_ask_is_left_as_it_is(self, judging: Client, expert: Expert) -> None:
        Expert.objects.filter(pk=expert.pk).update(keys_enabled=False, languages=["en"])
        self.save(judging, languages_asked=1, languages=["zh"])
        self.save(judging, keys_asked=1, keys_enabled=1)
        assert self.stored(expert) == (True, ["zh"])

    def test_the_dialog_on_the_judging_page_stays_where_it_is(self, judging: Client) -> None:
        assert self.save(judging, htmx=True, keys_asked=1).status_code == 204

    def test_without_javascript_each_form_leads_back(self, judging: Client) -> None:
        assert self.save(judging, keys_asked=1)["Location"] == reverse("judge")
        assert self.save(judging, languages_asked=1)["Location"] == reverse("my_judgements")


class TestReadability:
    FIGURES = ("words a sentence", "school grade", "characters a sentence")

    def test_before_the_vote_no_page_shows_any_figure(self, judging: Client, expert: Expert) -> None:
        make_comparison()
        assignment = next_assignment(expert=expert)
        answered = judging.get(reverse("show_readability", args=[assignment.key]))
        assert answered["Location"] == page_of(assignment)
        for path in (page_of(assignment), reverse("judge"), reverse("sitting_summary")):
            assert [words for words in self.FIGURES if words in html(judging.get(path))] == []

    def test_a_skip_is_no_vote(self, judging: Client, expert: Expert) -> None:
        make_comparison()
        assignment = next_assignment(expert=expert)
        post(judging, "skip_comparison", assignment)
        assert judging.get(reverse("show_readability", args=[assignment.key])).status_code == 302

    def test_neither_is_a_vote_that_was_taken_back(self, judging: Client, expert: Expert) -> None:
        assignment = judged(expert)
        undo_judgement(assignment=assignment)
        assert judging.get(reverse("show_readability", args=[assignment.key])).status_code == 302

    def test_after_the_vote_it_shows_each_story_in_the_order_shown(self, judging: Client, expert: Expert) -> None:
        policy, prompt = make_policy(), make_prompt()
        for index, text in enumerate(("One two.", "One two. Three four five six.")):
            make_story(policy, prompt, index, text)
        comparison = make_comparison(0, policy=policy, prompt=prompt)
        answer(expert, comparison, "A > B", shown="BA")
        page = html(judging.get(reverse("show_readability", args=[Assignment.objects.get().key])))
        rows = re.findall(r'<th scope="row">(\d)</th><td class="number">(\d+)</td><td class="number">([\d.]+)', page)
        assert rows == [("1", "6", "3.0"), ("2", "2", "2.0")]

    def test_chinese_has_no_school_grade(self, judging: Client, expert: Expert) -> None:
        policy, prompt = make_policy(), make_prompt(language="zh")
        for index, text in enumerate(("从前有狐狸。", "它跑了。")):
            make_story(policy, prompt, index, text)
        answer(expert, make_comparison(0, policy=policy, prompt=prompt), "tie")
        page = html(judging.get(reverse("show_readability", args=[Assignment.objects.get().key])))
        assert "characters a sentence" in page
        assert "school grade" not in page

    def test_another_experts_are_not_found(self, client: Client, expert: Expert) -> None:
        assignment = judged(expert)
        client.force_login(make_expert().user)
        assert client.get(reverse("show_readability", args=[assignment.key])).status_code == 404

    def test_the_toast_offers_it_after_a_vote_and_not_after_a_skip(self, judging: Client, expert: Expert) -> None:
        for _ in range(3):
            make_comparison()
        voted, skipped = next_assignment(expert=expert), None
        link = reverse("show_readability", args=[voted.key])
        assert link in html(submit(judging, voted, htmx=True, verdict="tie"))
        skipped = next_assignment(expert=expert)
        link = reverse("show_readability", args=[skipped.key])
        assert link not in html(post(judging, "skip_comparison", skipped, htmx=True))


class TestAnAnswerLookedAtAgain:
    def test_it_says_what_was_answered(self, judging: Client, expert: Expert) -> None:
        make_comparison()
        assignment = next_assignment(expert=expert)
        sent = {"best": 2, "worst": 3, "reason": "<Kind>"}
        submit(judging, assignment, **sent, **open_tab(judging, assignment))
        page = html(judging.get(page_of(assignment)))
        for words in ("Best: story 2", "Worst: story 3", "Why: &lt;Kind&gt;", "rank 1", "school grade"):
            assert words in page

    @pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.ORDINARY])
    def test_it_does_not_say_why_it_was_asked(self, judging: Client, expert: Expert, kind: str) -> None:
        comparison = make_comparison()
        answer(expert, comparison, "tie", kind=kind)
        pages = [reverse("my_judgements"), page_of(Assignment.objects.get()), reverse("sitting_summary")]
        sent = " ".join(html(judging.get(path)) for path in pages).lower()
        names = [comparison.policy.name, "gold", "silent", "adjudicat", "preference", "policy", "again in"]
        assert [word for word in names if word in sent] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"verdict": ["tie"]}, ["equally good"]),
        ({"verdict": ["ranked"], "best": ["2"], "worst": ["1"]}, ["Best: story 2", "Worst: story 1"]),
        ({"rank_1": ["2"], "rank_2": ["1"], "rank_3": ["2"]}, ["Order, as story (rank): 2 (1), 1 (2), 3 (2)"]),
        ({"reason": ["Kind."], "improved": ["Better."]}, ["Why: Kind."]),
    ],
)
def test_an_answer_is_said_in_words(fields: dict[str, list[str]], words: list[str]) -> None:
    assert said(fields) == words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One.", [(0, "One.")]),
        ("\n\nOne.\r\n \nTwo.\n", [(2, "One."), (10, "Two.")]),
        ("🦊。\n好", [(0, "🦊。"), (3, "好")]),
    ],
)
def test_a_paragraph_knows_at_which_character_it_begins(text: str, found: list[tuple[int, str]]) -> None:
    assert paragraphs(text) == found
    assert all(text[start : start + len(part)] == part for start, part in found)
