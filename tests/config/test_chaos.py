"""make chaos: what is killed when, what is counted afterwards, and a short run of it all."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from annotate.judgements import undo_judgement
from config.chaos import verdict
from config.chaos.killer import Kill
from config.chaos.plan import MOST_A_VISIT, SPREAD, TARGETS, Phase, Plan, Target
from config.trials import findings, house
from config.trials.people import Given
from generation.models import Policy
from generation.policies import register_policy
from tests.config.trials import given_judgement
from tests.environment import ROOT
from tests.factories import make_policy
from tests.models import make_tiny_model
from tests.training.stories import add_metric
from tests.training.test_models import make_round
from training.changes import PolicyChange
from training.models import Round, State


class TestPlan:
    @pytest.mark.parametrize("kills", [5, 12, 100, 237])
    def test_it_has_as_many_kills_as_asked_for_and_some_in_each_phase(self, kills: int) -> None:
        plan = Plan.of(kills, seed=1)
        assert plan.left.total() == kills
        assert all(plan.still(phase) for phase in Phase)

    def test_of_a_hundred_each_target_is_hit_in_each_phase_where_it_runs(self) -> None:
        plan = Plan.of(100, seed=7)
        assert {key for key, count in plan.left.items() if count} == {
            (phase, target) for phase in Phase for target in TARGETS[phase]
        }

    def test_the_same_seed_draws_the_same_kills_and_another_seed_others(self) -> None:
        def drawn(seed: int) -> list[Any]:
            plan = Plan.of(30, seed)
            return [plan.next(Phase.TRAINING) for _ in range(5)]

        assert drawn(1) == drawn(1) != drawn(2)

    def test_a_visit_is_killed_no_oftener_than_it_can_bear(self) -> None:
        plan = Plan.of(100, seed=1)
        plan.enter(Phase.TRAINING)
        for _ in range(MOST_A_VISIT[Phase.TRAINING]):
            chosen = plan.next(Phase.TRAINING)
            assert chosen
            assert 0 <= chosen[1] <= SPREAD[Phase.TRAINING]
            plan.killed(Phase.TRAINING, chosen[0])
        assert plan.next(Phase.TRAINING) is None
        plan.enter(Phase.TRAINING)
        assert plan.next(Phase.TRAINING)

    def test_it_is_over_when_all_is_killed(self) -> None:
        plan = Plan.of(5, seed=1)
        for (phase, target), count in Counter(plan.left).items():
            for _ in range(count):
                assert not plan.over
                plan.killed(phase, target)
        assert plan.over

    def test_the_table_says_what_was_hit_and_what_cannot_be(self) -> None:
        said = verdict.table(Counter({(Phase.TRAINING, Target.TRAINER): 3})).splitlines()
        assert said[0].split() == [*map(str, Target), "all"]
        assert said[3].split() == ["training", "0", "0", "3", "-", "0", "0", "0", "3"]
        assert said[1].split()[:4] == ["collecting", "0", "0", "-"]


@pytest.mark.django_db(transaction=True)
class TestJudgements:
    def test_one_that_is_kept_as_it_was_given_is_stored(self) -> None:
        found, _ = given_judgement()
        assert findings.judgements([found]) == {"acknowledged": 1, "stored": 1}

    def test_one_that_is_not_there_any_more_is_missed(self) -> None:
        found, assignment = given_judgement()
        undo_judgement(assignment=assignment)
        assert findings.judgements([found]) == {"acknowledged": 1, "stored": 0}

    def test_one_that_says_something_else_is_missed(self) -> None:
        found, _ = given_judgement()
        assert findings.judgements([Given(found.assignment, found.page, 2)])["stored"] == 0

    def test_one_of_another_page_is_missed(self) -> None:
        found, _ = given_judgement()
        assert findings.judgements([Given(found.assignment, str(uuid4()), 1)])["stored"] == 0


def made_policy(path: Path, **fields: Any) -> Policy:
    found = make_policy(**fields)
    found.path = str(path)
    found.save()
    return found


@pytest.mark.django_db
class TestRounds:
    def done(self, **fields: Any) -> Round:
        made = make_round(state=State.QUEUED)
        result = made_policy(made.folder / "policy", parent=made.policy)
        Round.objects.filter(pk=made.pk).update(state=State.PROMOTED, result=result, **fields)
        for step in (1, 2):
            add_metric(made, step=step, held_out=False)
        PolicyChange.objects.create(policy=result, before=made.policy, why="promoted")
        return Round.objects.get(pk=made.pk)

    def test_one_that_was_done_once_is_nothing_to_speak_of(self) -> None:
        self.done()
        assert (findings.doubled(set()), findings.stuck()) == ([], [])

    def test_two_trainers_at_a_time_are_told(self) -> None:
        assert findings.doubled({"/models/round-1"}) == ["two trainers in /models/round-1"]

    def test_a_second_promotion_is_told(self) -> None:
        done = self.done()
        PolicyChange.objects.create(policy=done.result, before=done.policy, why="promoted")
        assert findings.doubled(set()) == [f"policy {done.result_id} was promoted 2 times"]

    def test_a_second_policy_is_told(self) -> None:
        done = self.done()
        made_policy(done.folder / "merged")
        assert findings.doubled(set()) == [f"round {done.number} made 2 policies"]

    def test_a_step_that_is_missing_is_told(self) -> None:
        done = self.done()
        add_metric(done, step=4, held_out=False)
        assert findings.doubled(set()) == [f"round {done.number} lacks steps: it has [1, 2, 4]"]

    def test_one_that_is_left_at_work_is_stuck(self) -> None:
        left = make_round(state=State.TRAINING)
        assert findings.stuck() == [f"round {left.number} is training"]

    def test_those_whose_training_was_hit_are_compared(self) -> None:
        done = self.done()
        hit = Kill(Phase.TRAINING, Target.BEAT, done.number, 1.0)
        assert verdict.interrupted([hit]) == [done]
        assert verdict.interrupted([Kill(Phase.GENERATING, Target.BEAT, done.number, 1.0)]) == []


@pytest.mark.django_db
class TestPolicies:
    @pytest.fixture
    def policy(self, tiny_model: Path, tmp_path: Path) -> Policy:
        shutil.copytree(tiny_model, tmp_path / "policy")
        return register_policy(name="base", path=tmp_path / "policy")

    def test_one_that_is_whole_is_nothing_to_speak_of(self, policy: Policy) -> None:
        assert findings.half_written() == []

    def test_one_whose_file_is_cut_off_is_told(self, policy: Policy) -> None:
        weights = Path(policy.path) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        assert len(findings.half_written()) == 1

    def test_one_that_has_other_weights_than_were_registered_is_told(self, policy: Policy, tmp_path: Path) -> None:
        make_tiny_model(Path(policy.path), seed=2)
        assert findings.half_written() == ["base: other weights than were registered"]


def test_a_service_is_its_own_processes_and_not_the_trainer(tmp_path: Path) -> None:
    idle = "import time; time.sleep(60)"
    code = "import subprocess, sys\nfor word in ('x', 'training.dpo'):\n"
    code += f"    subprocess.Popen([sys.executable, '-c', {idle!r}, word])\nprint('up', flush=True); {idle}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.stdout.readline()
        found = house.family(process.pid)
        assert found[0] == process.pid
        assert [house.command_line(pid)[-1] for pid in found[1:]] == ["x"]
    finally:
        for pid in [process.pid, *house.running(idle)]:
            os.kill(pid, 9)
        process.communicate()
    assert house.family(process.pid) == []


def test_a_trainer_that_has_lost_its_worker_is_seen(settings, tmp_path: Path) -> None:
    settings.MODEL_DIR = tmp_path / "models"
    words = f"training.dpo --out {settings.MODEL_DIR}/round-1"
    command = [sys.executable, "-c", "import time; time.sleep(60)", words]
    parent = f"import subprocess; print(subprocess.Popen({command!r}, stdout=subprocess.DEVNULL).pid)"
    pid = int(subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, check=True).stdout)
    try:
        assert house.trainers() == [pid]
    finally:
        os.kill(pid, 9)


@pytest.mark.slow
def test_a_short_run_loses_nothing(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "writer", trained=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STORYLOOP_")}
    environment |= {"STORYLOOP_VAR": str(tmp_path / "var"), "STORYLOOP_BASE_MODEL": str(model)}
    environment |= {"STORYLOOP_MAX_STORY_TOKENS": "96"}
    command = [sys.executable, "manage.py", "chaos", "--kills", "5", "--seed", "4"]
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [*command, "--json", str(figures)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "SEED=4" in done.stdout
    found = json.loads(figures.read_text())
    assert {name: found[name] for name in ("seed", "kills", "doubled_rounds", "stuck_rounds", "errors")} == {
        "seed": 4, "kills": 5, "doubled_rounds": 0, "stuck_rounds": 0, "errors": 0,
    }  # fmt: skip
    assert found["acknowledged"] == found["stored"] > 40
    assert found["resume_identical"]
    assert found["compared_with_unbroken"] >= 1
