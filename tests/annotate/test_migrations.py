"""An installation with rows from before gets what the new columns say of them."""

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

BEFORE = [("annotate", "0001_initial"), ("generation", "0001_initial")]
NOW = timezone.now()
Rows = dict[Any, dict[str, Any]]


class Old:
    """Rows as they were written before."""

    def __init__(self, apps: Any) -> None:
        self.apps = apps
        self.policy = self.make("generation", "Policy", name="old", path="/models/none", weights_hash="0" * 64)

    def make(self, app: str, model: str, **fields: Any) -> Any:
        return self.apps.get_model(app, model).objects.create(**fields)

    def expert(self, name: str) -> Any:
        user = self.make("auth", "User", username=name)
        return self.make("annotate", "Expert", user_id=user.pk, audience="parent")

    def comparison(self, language: str, *, purpose: str = "preference", **fields: Any) -> Any:
        about = {"theme": "courage", "story_type": "fable", "age_band": "5-6", "split": "train"}
        prompt = self.make("generation", "Prompt", text=f"{language} {fields}", language=language, **about)
        comparison = self.make("annotate", "Comparison", prompt=prompt, purpose=purpose, policy=self.policy, **fields)
        sampled = {"token_ids": [1], "finish_reason": "stop", "temperature": 1, "top_p": 1, "min_p": 0, "seed": 1}
        for index in range(3):
            story = self.make(
                "generation", "Story", prompt=prompt, policy=self.policy, sample_index=index, text=f"Fox {index}.",
                rendered_prompt=prompt.text, weights_hash="0" * 64, **sampled
            )  # fmt: skip
            comparison.stories.add(story)
        return comparison

    def assignment(self, comparison: Any, expert: Any, **fields: Any) -> Any:
        shown = list(comparison.stories.order_by("-pk").values_list("pk", flat=True))
        return self.make("annotate", "Assignment", comparison=comparison, expert=expert, shown=shown, **fields)

    def place(self, comparison: Any, number: int, assignment: Any = None, held_until: Any = None) -> Any:
        values = {"comparison": comparison, "number": number, "draw_order": 0.5}
        return self.make("annotate", "Place", **values, assignment=assignment, held_until=held_until).pk

    def judgement(self, assignment: Any, verdict: str, ranks: list[int], reason: str = "") -> Any:
        judgement = self.make("annotate", "Judgement", assignment=assignment, verdict=verdict, reason=reason)
        for position, (story, rank) in enumerate(zip(assignment.shown, ranks, strict=True), start=1):
            self.make("annotate", "Rank", judgement=judgement, story_id=story, rank=rank, shown_position=position)
        return judgement


def fill(old: Old) -> SimpleNamespace:
    """Two experts: one has judged twice (once late, after a skip), both hold something."""
    busy, new = old.expert("busy"), old.expert("new")
    english, chinese = old.comparison("en"), old.comparison("zh")
    closed = old.comparison("en", closed_at=NOW)
    newer = old.make("generation", "Policy", name="newer", path="/models/none", weights_hash="1" * 64)
    blind = old.comparison("en", purpose="evaluation", baseline=newer)
    ranked, tied = old.assignment(english, busy), old.assignment(chinese, busy, skipped_at=NOW)
    held, begun = old.assignment(english, new), old.assignment(closed, new, skipped_at=NOW)
    first = old.judgement(ranked, "ranked", [2, 1, 2], "Kind.")
    old.judgement(tied, "tie", [1, 1, 1])
    places = SimpleNamespace(
        filled=old.place(english, 1, ranked),
        held=old.place(english, 2, held, NOW + timedelta(minutes=5)),
        expired=old.place(chinese, 1, begun, NOW - timedelta(minutes=5)),
        free=old.place(chinese, 2),
        closed=old.place(closed, 1),
        blind=old.place(blind, 1),
    )
    found = {"ranked": ranked.pk, "tied": tied.pk, "held": held.pk, "skipped": begun.pk}
    return SimpleNamespace(**found, places=places, busy=busy.pk, new=new.pk, judged_at=first.created_at)


def _by_pk(model: Any) -> Rows:
    return {row["id"]: row for row in model.objects.values()}


@pytest.fixture(scope="module")
def found(django_db_setup: None, django_db_blocker: Any) -> Iterator[SimpleNamespace]:
    """The rows after the way from the old tables to today's; and what was where."""
    with django_db_blocker.unblock():
        try:
            MigrationExecutor(connection).migrate(BEFORE)
            was = fill(Old(MigrationExecutor(connection).loader.project_state(BEFORE).apps))
        finally:
            executor = MigrationExecutor(connection)
            executor.migrate(executor.loader.graph.leaf_nodes())
        from annotate import models

        names = ("Place", "Assignment", "Expert", "Revision", "Judgement", "Draft")
        yield SimpleNamespace(was=was, **{name: _by_pk(getattr(models, name)) for name in names})
        call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=False)


def revisions(found: SimpleNamespace, assignment: int) -> list[dict[str, Any]]:
    return [row for row in found.Revision.values() if row["assignment_id"] == assignment]


def test_a_place_reads_its_comparisons_language(found: SimpleNamespace) -> None:
    places = vars(found.was.places)
    languages = {name: found.Place[pk]["language"] for name, pk in places.items()}
    assert languages == {"filled": "en", "held": "en", "expired": "zh", "free": "zh", "closed": "en", "blind": "en"}


def test_a_place_is_wanted_if_it_is_not_filled_and_its_comparison_is_open(found: SimpleNamespace) -> None:
    places = vars(found.was.places)
    wanted = {name for name, pk in places.items() if found.Place[pk]["wanted"]}
    assert wanted == {"held", "expired", "free", "blind"}


def test_a_place_of_new_against_old_says_so(found: SimpleNamespace) -> None:
    places = vars(found.was.places)
    assert {name for name, pk in places.items() if found.Place[pk]["evaluation"]} == {"blind"}


def test_who_holds_a_place_holds_it_still(found: SimpleNamespace) -> None:
    place = found.Place[found.was.places.held]
    assert (place["assignment_id"], place["held_until"]) == (found.was.held, NOW + timedelta(minutes=5))


def test_what_was_judged_is_answered_when_it_was(found: SimpleNamespace) -> None:
    assert found.Assignment[found.was.ranked]["answered_at"] == found.was.judged_at


def test_an_answer_after_a_skip_is_no_skip(found: SimpleNamespace) -> None:
    tied = found.Assignment[found.was.tied]
    assert tied["answered_at"]
    assert tied["skipped_at"] is None


def test_what_was_not_judged_stays_as_it_was(found: SimpleNamespace) -> None:
    held, skipped = found.Assignment[found.was.held], found.Assignment[found.was.skipped]
    assert (held["answered_at"], held["skipped_at"], held["version"]) == (None, None, 0)
    assert (skipped["answered_at"], skipped["skipped_at"]) == (None, NOW)


def test_all_that_was_shown_was_ordinary_work(found: SimpleNamespace) -> None:
    assert {row["kind"] for row in found.Assignment.values()} == {"ordinary"}


def test_experts_are_credited_with_what_they_judged(found: SimpleNamespace) -> None:
    assert (found.Expert[found.was.busy]["judged"], found.Expert[found.was.new]["judged"]) == (2, 0)


def test_experts_read_all_languages_as_before(found: SimpleNamespace) -> None:
    assert found.Expert[found.was.busy]["languages"] == ["en", "zh"]


def test_an_answers_history_begins_with_it(found: SimpleNamespace) -> None:
    (line,) = revisions(found, found.was.ranked)
    fields = {"verdict": ["ranked"], "reason": ["Kind."], "rank_1": ["2"], "rank_2": ["1"], "rank_3": ["2"]}
    assert (line["number"], line["act"], line["created_at"]) == (1, "submitted", found.was.judged_at)
    assert line["fields"] == fields


def test_a_ties_history_names_no_ranks(found: SimpleNamespace) -> None:
    (line,) = revisions(found, found.was.tied)
    assert line["fields"] == {"verdict": ["tie"], "reason": [""]}


def test_what_was_not_judged_has_no_history(found: SimpleNamespace) -> None:
    assert len(found.Revision) == 2


def test_the_next_line_has_the_next_number(found: SimpleNamespace) -> None:
    assert found.Assignment[found.was.ranked]["version"] == revisions(found, found.was.ranked)[0]["number"]


def test_no_time_is_made_up_for_what_was_judged_before(found: SimpleNamespace) -> None:
    times = {(row["seconds"], row["hurried"], tuple(row["reasons_for"])) for row in found.Judgement.values()}
    assert times == {(None, False, ())}
