"""The one schedule that there was becomes the first of several, and loses nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE = [("training", "0002_alarms")]
LOOKED = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


@pytest.mark.slow
def test_the_schedule_its_promotion_and_the_rounds_times_are_kept(django_db_setup: None, django_db_blocker) -> None:
    from training.models import PromotionRule, Round, Schedule

    with django_db_blocker.unblock():
        try:
            MigrationExecutor(connection).migrate(BEFORE)
            old = MigrationExecutor(connection).loader.project_state(BEFORE).apps
            policy = old.get_model("generation", "Policy").objects.create(name="base", path="/m", weights_hash="0" * 64)
            old.get_model("training", "Schedule").objects.create(
                enabled=True, min_new_pairs=70, every_minutes=30, include_simulated=True, looked_at=LOOKED,
                promote_automatically=True,
            )  # fmt: skip
            old.get_model("training", "Round").objects.create(
                number=1, policy=policy, method="full", loss="sigmoid", learning_rate=1e-4, state="failed",
                message="no disk", ended_at=LOOKED,
            )  # fmt: skip
        finally:
            executor = MigrationExecutor(connection)
            executor.migrate(executor.loader.graph.leaf_nodes())
        try:
            schedule, rule = Schedule.objects.get(), PromotionRule.objects.get()
            assert (schedule.enabled, schedule.min_new_pairs, schedule.every_minutes) == (True, 70, 30)
            assert schedule.include_simulated
            assert schedule.next_at == LOOKED + timedelta(minutes=30)
            assert (rule.automatic, rule.include_simulated) == (True, True)
            assert Round.objects.get().state_since == LOOKED
        finally:
            call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=False)
