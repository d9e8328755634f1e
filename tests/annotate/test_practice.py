"""The calibration set: who gets it, what is kept, how it is imported, and the guidelines beside the work."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotate.models import Campaign, Criterion, Example, Expert, PracticeAnswer
from annotate.practice import (
    SHIPPED_EXAMPLES,
    BadExamples,
    BadPractice,
    Imported,
    answer_example,
    ensure_shipped_examples,
    guidelines_text,
    import_examples,
    needs_practice,
    next_example,
)
from tests.factories import make_expert

pytestmark = pytest.mark.django_db
GOOD = {
    "key": "kind-words",
    "language": "en",
    "prompt": "Write a fable about a kind fox.",
    "age_band": "5-6",
    "stories": ["The first fox.", "The second fox.", "The third fox."],
    "best": 2,
    "worst": 3,
    "explanation_en": "The second is kinder.",
    "explanation_zh": "第二个更善良。",
    "sort_order": 4,
}


def make_example(key: str = "kind-words", **changes: object) -> Example:
    return Example.objects.create(**{**GOOD, "key": key, **changes})


def row(**changes: object) -> str:
    """One line of JSON: GOOD with `changes`; a field changed to ... is left out."""
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...})


def write(directory: Path, *lines: str) -> Path:
    path = directory / "examples.jsonl"
    path.write_bytes("\n".join(lines).encode())
    return path


def html(response: object) -> str:
    return response.content.decode()


@pytest.fixture
def campaign() -> Campaign:
    return Campaign.current()


# who practises, and with what


def test_examples_come_in_the_order_of_the_set_and_once(expert: Expert) -> None:
    last, first = make_example("last", sort_order=2), make_example("first", sort_order=1)
    assert next_example(expert) == first
    answer_example(expert=expert, example=first, best=1, worst=2)
    assert next_example(expert) == last
    answer_example(expert=expert, example=last, best=1, worst=2)
    assert next_example(expert) is None


def test_examples_come_only_in_the_languages_that_the_expert_reads(expert: Expert) -> None:
    make_example("english")
    chinese = make_example("chinese", language="zh")
    expert.languages = ["zh"]
    assert next_example(expert) == chinese
    answer_example(expert=expert, example=chinese, best=1, worst=2)
    assert expert.practised_at


def test_an_example_that_an_admin_switched_off_does_not_come(expert: Expert) -> None:
    make_example(active=False)
    assert next_example(expert) is None


def test_a_new_expert_practises_first(expert: Expert, campaign: Campaign) -> None:
    assert not needs_practice(expert, campaign)
    example = make_example()
    answer_example(expert=make_expert(), example=example, best=1, worst=2)
    assert needs_practice(expert, campaign)


def test_nobody_practises_when_the_campaign_says_so_and_no_simulated_expert_does(
    expert: Expert, campaign: Campaign
) -> None:
    make_example()
    assert not needs_practice(make_expert(simulated=True), campaign)
    campaign.practice = False
    assert not needs_practice(expert, campaign)


def test_who_has_practised_is_known_without_a_query(
    expert: Expert, campaign: Campaign, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    example = make_example()
    with django_assert_num_queries(1):
        assert needs_practice(expert, campaign)
    answer_example(expert=expert, example=example, best=1, worst=2)
    make_example("came later")
    with django_assert_num_queries(0):
        assert not needs_practice(Expert(practised_at=expert.practised_at), campaign)


# what is kept


def test_the_last_answer_ends_the_practice(expert: Expert) -> None:
    first, second = make_example("one"), make_example("two")
    answer_example(expert=expert, example=first, best=1, worst=None)
    expert.refresh_from_db()
    assert expert.practised_at is None
    answer_example(expert=expert, example=second, best=1, worst=None)
    expert.refresh_from_db()
    assert expert.practised_at is not None


def test_the_first_answer_stands(expert: Expert) -> None:
    example = make_example()
    answer_example(expert=expert, example=example, best=1, worst=2)
    practised_at = expert.practised_at
    again = answer_example(expert=expert, example=example, best=3, worst=1)
    assert (again.best, again.worst) == (1, 2)
    assert expert.practised_at == practised_at
    assert PracticeAnswer.objects.count() == 1


@pytest.mark.parametrize(("best", "worst"), [(None, None), (None, 1), (0, 1), (4, 1), (1, 0), (1, 4), (2, 2)])
def test_an_answer_that_names_no_best_story_is_not_kept(expert: Expert, best: int | None, worst: int | None) -> None:
    with pytest.raises(BadPractice, match=r"best"):
        answer_example(expert=expert, example=make_example(), best=best, worst=worst)
    assert not PracticeAnswer.objects.exists()


# the importer


def test_a_line_becomes_an_example_with_every_field(tmp_path: Path) -> None:
    assert import_examples(write(tmp_path, row())) == Imported(new=1, updated=0)
    assert Example.objects.values(*GOOD).get() == GOOD
    assert Example.objects.get().active


def test_a_known_key_is_updated_in_place_and_keeps_its_answers(tmp_path: Path, expert: Expert) -> None:
    example = make_example(active=False)
    answer_example(expert=expert, example=example, best=1, worst=2)
    assert import_examples(write(tmp_path, row(best=1), row(key="new"))) == Imported(new=1, updated=1)
    example.refresh_from_db()
    assert (example.best, example.active, example.answers.count()) == (1, False, 1)


def test_without_a_sort_order_the_files_order_is_kept(tmp_path: Path) -> None:
    import_examples(write(tmp_path, row(key="b", sort_order=...), "", row(key="a", sort_order=...)))
    assert list(Example.objects.values_list("key", "sort_order")) == [("b", 1), ("a", 2)]


BAD_LINES = [
    ("{", "not valid JSON"),
    ("[]", "begin the line with {"),
    (row(colour="red"), "unknown field colour"),
    (row(best=..., worst=...), "best, worst missing"),
    (row(prompt=" "), "prompt is empty"),
    (row(prompt=7), "prompt is 7: give text"),
    (row(explanation_zh="\x00"), "explanation_zh holds a character that is no text"),
    (row(explanation_en="\ud800"), "explanation_en holds a character that is no text"),
    (row(language="fr"), "language is 'fr': give en or zh"),
    (row(age_band="five to six years"), "age_band is longer"),
    (row(key="kind words"), "key is 'kind words': use only letters"),
    (row(key="k" * 61), "key is longer than 60"),
    (row(stories="One fox."), "2 to 5 texts"),
    (row(stories=["One fox."]), "2 to 5 texts"),
    (row(stories=["A fox."] * 6), "2 to 5 texts"),
    (row(stories=["A fox.", "", "A fox."]), "story 2 is empty"),
    (row(best=4), "best is 4: give the number of a story, 1 to 3"),
    (row(best="2"), "best is '2'"),
    (row(worst=True), "worst is True"),
    (row(worst=0), "worst is 0"),
    (row(worst=2), "story 2 is both the best and the worst"),
    (row(sort_order=-1), "sort_order is -1"),
    (row(sort_order=40_000), "sort_order is 40000"),
    (row(), "the same key as line 1"),
]


@pytest.mark.parametrize(("line", "fault"), BAD_LINES, ids=[fault for _, fault in BAD_LINES])
def test_a_bad_line_is_named_and_nothing_is_imported(tmp_path: Path, line: str, fault: str) -> None:
    with pytest.raises(BadExamples) as refused:
        import_examples(write(tmp_path, row(), line))
    (said,) = refused.value.faults
    assert said.startswith("line 2: ")
    assert fault in said
    assert not Example.objects.exists()


@pytest.mark.parametrize(
    ("content", "fault"), [(b"", "holds no examples"), (b"\xff", "as UTF-8"), (None, "Check the path")]
)
def test_a_file_without_examples_is_refused(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "examples.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadExamples, match=fault):
        import_examples(path)


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    out = StringIO()
    call_command("import_examples", str(write(tmp_path, row())), stdout=out)
    assert out.getvalue() == "1 examples imported, 0 updated.\n"


def test_the_command_shows_twenty_faults_and_counts_the_rest(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("import_examples", str(write(tmp_path, *["{"] * 23)))
    lines = str(refused.value).split("\n")
    assert (len(lines), lines[0][:21], lines[-1]) == (22, "Nothing was imported ", "and 3 more")


def test_the_shipped_set_is_imported_once(tmp_path: Path) -> None:
    assert ensure_shipped_examples() == 6
    Example.objects.first().delete()
    assert ensure_shipped_examples() == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_shipped_set_has_three_examples_with_the_best_in_different_places(language: str) -> None:
    import_examples(SHIPPED_EXAMPLES)
    examples = Example.objects.filter(language=language)
    assert sorted(e.best for e in examples) == sorted(e.worst for e in examples) == [1, 2, 3]


def test_the_shipped_stories_do_not_give_themselves_away_by_length() -> None:
    import_examples(SHIPPED_EXAMPLES)
    for example in Example.objects.all():
        lengths = [len(s.split()) if example.language == "en" else len("".join(s.split())) for s in example.stories]
        shortest, longest = (60, 120) if example.language == "en" else (120, 200)
        assert shortest <= min(lengths) <= max(lengths) <= min(longest, 1.25 * min(lengths)), example.key


# the pages


def practise(browser: Client, key: str = "kind-words", **fields: object) -> object:
    return browser.post(reverse("answer_practice", args=[key]), fields)


def test_the_practice_page_shows_the_example_and_not_its_answer(judging: Client) -> None:
    make_example()
    page = html(judging.get(reverse("practice")))
    assert re.findall(r'<div class="story" lang="en">(.*?)</div>', page) == GOOD["stories"]
    assert "example 1 of 1" in page
    assert "is kinder" not in page
    assert "is-best" not in page


def test_the_keys_of_real_work_find_the_practice_too(judging: Client) -> None:
    make_example()
    work = html(judging.get(reverse("practice"))).split('<section id="work"')[1]
    for name, button in [("best", "1"), ("best", "3"), ("worst", "1"), ("worst", "3"), ("verdict", "ranked")]:
        assert f'name="{name}" value="{button}"' in work
    practise(judging, best=1)
    assert 'value="ranked"' in html(judging.get(reverse("practice"), {"look": ""})).split('<section id="work"')[1]


def test_an_expert_without_single_keys_is_shown_none(judging: Client, expert: Expert) -> None:
    make_example()
    Expert.objects.update(keys_enabled=False)
    page = html(judging.get(reverse("practice")))
    assert "<kbd>" not in page
    assert "judge.js" not in page


def test_two_stories_have_no_worst_in_practice(judging: Client) -> None:
    make_example(stories=["One fox.", "Two foxes."], best=1, worst=2)
    page = html(judging.get(reverse("practice")))
    assert page.count('name="best"') == 2
    assert 'name="worst"' not in page


def test_an_example_is_text_and_never_markup(judging: Client) -> None:
    make_example(stories=["<script>alert(1)</script>", "Two foxes."], best=1, worst=2)
    assert "<script>alert" not in html(judging.get(reverse("practice")))


def test_without_an_example_to_answer_the_practice_leads_to_the_work(judging: Client) -> None:
    assert judging.get(reverse("practice"))["Location"] == reverse("judge")


@pytest.mark.parametrize("fields", [{}, {"worst": 1}, {"best": "x"}, {"best": "9" * 5000}, {"best": "²"}])
def test_without_a_best_story_the_page_comes_back_with_a_message(judging: Client, fields: dict[str, object]) -> None:
    make_example()
    response = practise(judging, **fields)
    assert response.status_code == 422
    assert "Choose the best story first." in html(response)


def test_a_contradiction_comes_back_with_the_choices_kept(judging: Client) -> None:
    make_example()
    response = practise(judging, best=2, worst=2)
    assert response.status_code == 422
    assert re.findall(r'name="(\w+)" value="(\d)" checked', html(response)) == [("best", "2"), ("worst", "2")]


def test_an_answer_leads_to_the_explanation_with_best_and_worst_marked(judging: Client) -> None:
    make_example()
    page = html(judging.get(practise(judging, best=1, worst=3)["Location"]))
    assert GOOD["explanation_en"] in page
    assert "You chose story 1; we would choose story 2." in page
    cards = page.split("<article")[1:]
    tags = [re.findall(r'<span class="tag[^>]*>([^<]*)<', card) for card in cards]
    assert tags == [["Your best"], ["Best"], ["Worst", "Your worst"]]


def test_the_explanation_comes_in_the_pages_language(judging: Client) -> None:
    make_example()
    explained = practise(judging, best=1)["Location"]
    assert GOOD["explanation_zh"] in html(judging.get(explained, HTTP_ACCEPT_LANGUAGE="zh-hans"))


def test_after_the_last_example_who_agrees_is_told_so_and_begins(judging: Client) -> None:
    make_example("one", sort_order=1)
    make_example("two", sort_order=2)
    page = html(judging.get(practise(judging, "one", best=1)["Location"]))
    assert f'<form method="get" action="{reverse("practice")}">' in page
    assert "Go on" in page
    page = html(judging.get(practise(judging, "two", best=2)["Location"]))
    assert "That is how we see it too: story 2 is best." in page
    assert f'<form method="get" action="{reverse("judge")}">' in page
    assert "Begin" in page


def test_the_examples_can_be_looked_at_again_from_the_first_on(judging: Client, expert: Expert) -> None:
    for number in (1, 2):
        example = make_example(f"example-{number}", sort_order=number, explanation_en=f"Reason {number}.")
        answer_example(expert=expert, example=example, best=1, worst=2)
    page = html(judging.get(reverse("practice"), {"look": ""}))
    assert "Reason 1." in page
    assert '<input type="hidden" name="look" value="example-2">' in page
    assert "Begin" in html(judging.get(reverse("practice"), {"look": "example-2"}))


def test_the_answer_cannot_be_looked_at_before_answering(judging: Client) -> None:
    make_example()
    assert GOOD["explanation_en"] not in html(judging.get(reverse("practice"), {"look": "kind-words"}))


def test_an_example_in_another_language_cannot_be_answered(judging: Client, expert: Expert) -> None:
    make_example(language="zh")
    Expert.objects.filter(pk=expert.pk).update(languages=["en"])
    assert practise(judging, best=1).status_code == 404


def test_an_answer_outlives_an_example_with_fewer_stories(judging: Client, expert: Expert) -> None:
    example = make_example()
    answer_example(expert=expert, example=example, best=3, worst=1)
    Example.objects.update(stories=["One fox.", "Two foxes."], best=1, worst=2)
    assert judging.get(reverse("practice"), {"look": ""}).status_code == 200


def test_the_guidelines_explain_every_criterion_and_lead_back_to_the_examples(judging: Client) -> None:
    page = html(judging.get(reverse("guidelines")))
    assert [label for label in Criterion.labels if f"<dt><strong>{label}</strong></dt>" not in page] == []
    assert f'href="{reverse("practice")}?look="' in page


def test_an_admins_guidelines_take_the_place_of_the_shipped_ones(judging: Client, campaign: Campaign) -> None:
    campaign.guidelines_en = "Read <b>slowly</b>.\n\nBe kind."
    campaign.save()
    page = html(judging.get(reverse("guidelines")))
    assert "<p>Read &lt;b&gt;slowly&lt;/b&gt;.</p>\n\n<p>Be kind.</p>" in page
    assert "Three steps" not in page
    assert "Read &lt;b&gt;" not in html(judging.get(reverse("guidelines"), HTTP_ACCEPT_LANGUAGE="zh-hans"))


@pytest.mark.parametrize(("language", "text"), [("en", "Slowly."), ("zh-hans", "慢慢来。"), ("fr", "Slowly.")])
def test_the_guidelines_are_those_of_the_pages_language(language: str, text: str) -> None:
    written = Campaign(guidelines_en="Slowly.\n", guidelines_zh="慢慢来。")
    assert guidelines_text(written, language) == text
    assert guidelines_text(Campaign(), language) == ""
