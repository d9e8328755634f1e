"""A round in stages, with the real trainer: frozen by its selection, its steps counted on."""

import json
from pathlib import Path

import pytest

from annotate.models import CriterionWinner, Judgement
from generation.models import Policy
from generation.policies import register_policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from tests.training.test_models import make_round
from training import run
from training.models import Round
from training.rounds import launch_round, take_round
from training.schedule import DEFAULTS
from training.steps import counted_on

STAGES = [{"criterion": "structure", "beta": 0.3}, {"criterion": "creativity", "beta": 0.1}]


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_each_stage_trains_on_its_criterion_and_steps_are_counted_on(
    tiny_model: Path, tmp_path: Path, settings
) -> None:
    settings.MODEL_DIR = settings.EXPORT_DIR = tmp_path
    policy = register_policy(name="base", path=tiny_model)
    for criterion, count in (("structure", 4), ("creativity", 2)):
        for _ in range(count):
            stories = list(make_comparison(3, policy=policy).stories.all())
            judged = judge_by_story(make_expert(), stories)
            CriterionWinner.objects.create(judgement=judged, criterion=criterion, story=stories[0])
    launched = launch_round(**{**DEFAULTS, "stages": STAGES, "epochs": 1, "batch_pairs": 2, "eval_share": 0.0})
    lease = take_round(launched.pk)
    assert lease
    run._freeze(launched, lease)
    frozen = [json.loads(line) for line in Path(Round.objects.get().export_path).read_text().splitlines()]
    assert sorted(row["criterion"] for row in frozen) == ["creativity"] * 4 + ["structure"] * 8
    assert Judgement.objects.count() == 6

    run._train(Round.objects.get(), lease)

    done = Round.objects.select_related("result").get()
    assert done.result
    assert [metric.step for metric in done.metrics.trained()] == [1, 2, 3, 4, 5, 6]
    assert (done.done, done.total) == (6, 6)
    record = json.loads((Path(done.result.path).parent / "run.json").read_text())
    assert record["stages"] == ["structure", "creativity"]
    last = tmp_path / Path(done.result.path).parent.name / "stages" / "2-creativity" / "run.json"
    assert json.loads(last.read_text())["settings"]["beta"] == 0.1


def test_a_round_without_stages_counts_as_its_trainer_does(tmp_path: Path) -> None:
    line = {"step": 3, "total_steps": 9, "stage": ""}
    assert counted_on(Round(stages=[]), tmp_path, line) == line


@pytest.mark.django_db
def test_the_base_is_the_reference_if_the_round_says_so(tmp_path: Path) -> None:
    base = make_policy("base")
    Policy.objects.filter(pk=base.pk).update(path="/models/base")
    current = make_round(policy=make_policy("round-1", parent=Policy.objects.get()), reference="base")
    command = run.trainer_command(current, tmp_path)
    assert command[command.index("--reference") + 1] == "/models/base"
    current.reference = "policy"
    assert "--reference" not in run.trainer_command(current, tmp_path)
