"""Deleting weights: only ours, never what is needed, and the record stays."""

import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from config.models import AuditEntry
from generation import policy_files
from generation.engines.values import EngineError
from generation.models import JudgeModel, Policy
from generation.policies import register_policy
from generation.runs import CannotWrite, begin_or_join
from generation.writers import server_weights, writing_of
from tests.factories import make_policy, make_prompt, make_run, make_story
from tests.training.test_models import make_round
from training.models import Round, State
from training.rounds import take_round
from training.run import _write
from training.weights import CannotDelete, delete_weights, freed_by_deleting

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def models(tmp_path: Path, settings) -> Path:
    settings.MODEL_DIR = tmp_path / "models"
    settings.MODEL_DIR.mkdir()
    return settings.MODEL_DIR


@pytest.fixture
def base() -> Policy:
    return make_policy("base", current=True)


def result_of(base: Policy, tiny_model: Path, *, number: int = 1, lora: bool = False, **fields: object) -> Policy:
    """A policy whose files lie where its round puts them."""
    state = fields.get("state", State.REJECTED)
    made_by = make_round(number=number, policy=base, result=None, state=State.FAILED, message="-")
    folder = made_by.folder
    path = folder / ("merged" if lora else "policy")
    shutil.copytree(tiny_model, path)
    adapter = folder / "policy" if lora else None
    if adapter:
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(b"adapter")
        (adapter / "adapter_config.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("{}\n")
    found = register_policy(name=f"round-{number}", path=path, adapter_path=adapter, parent=base)
    Round.objects.filter(pk=made_by.pk).update(result=found, state=state)
    return found


def test_the_files_go_and_the_record_stays(base: Policy, tiny_model: Path, models: Path) -> None:
    policy = result_of(base, tiny_model)
    make_story(policy, make_prompt())
    folder = Path(policy.path).parent
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state.safetensors").write_bytes(b"x" * 1000)
    wanted = freed_by_deleting(policy)
    assert wanted == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) - 3
    assert delete_weights(policy_id=policy.pk) == wanted
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]
    policy.refresh_from_db()
    assert policy.weights_deleted_at
    assert policy.stories.count() == 1


def test_a_deletion_that_was_interrupted_can_be_done_again(base: Policy, tiny_model: Path) -> None:
    policy = result_of(base, tiny_model)
    Policy.objects.filter(pk=policy.pk).update(weights_deleted_at=timezone.now())
    assert delete_weights(policy_id=policy.pk) > 0
    assert delete_weights(policy_id=policy.pk) == 0


class TestRefused:
    def check(self, policy: Policy, said: str) -> None:
        with pytest.raises(CannotDelete, match=said):
            delete_weights(policy_id=policy.pk)
        policy.refresh_from_db()
        assert policy.weights_deleted_at is None
        assert policy.path == "/models/none" or any(Path(policy.path).iterdir())

    def test_of_the_policy_in_use(self, base: Policy) -> None:
        self.check(base, "base is in use")

    def test_of_a_round_that_is_not_over(self, base: Policy, tiny_model: Path) -> None:
        self.check(result_of(base, tiny_model, state=State.JUDGING), "Round 1 works with round-1 and is not over")

    def test_of_the_base_that_a_round_is_compared_with(self, base: Policy, tiny_model: Path) -> None:
        middle = result_of(base, tiny_model, state=State.PROMOTED)
        Policy.objects.filter(pk=base.pk).update(is_current=False)
        Policy.objects.filter(pk=middle.pk).update(is_current=True)
        make_round(number=2, policy=middle, state=State.TRAINING)
        self.check(base, "Round 2 works with base")

    def test_while_it_writes(self, base: Policy, tiny_model: Path) -> None:
        policy = result_of(base, tiny_model)
        make_run(policy)
        self.check(policy, "is writing stories")

    def test_of_the_judge_model(self, base: Policy, tiny_model: Path) -> None:
        policy = result_of(base, tiny_model)
        JudgeModel.objects.create(policy=policy)
        self.check(policy, "is the judge model")

    def test_of_what_an_adapter_stands_on_until_that_is_deleted(self, base: Policy, tiny_model: Path) -> None:
        below = result_of(base, tiny_model)
        above = result_of(below, tiny_model, number=2, lora=True)
        self.check(below, "The adapter of round-2 stands on these weights")
        delete_weights(policy_id=above.pk)
        assert delete_weights(policy_id=below.pk) > 0

    def test_of_what_lies_elsewhere(self, base: Policy, tiny_model: Path) -> None:
        self.check(register_policy(name="from outside", path=tiny_model), "does not lie in")

    def test_of_what_only_a_link_in_our_folder_names(self, base: Policy, tiny_model: Path, models: Path) -> None:
        (models / "link").symlink_to(tiny_model)
        self.check(register_policy(name="link", path=models / "link"), "does not lie in")
        assert (tiny_model / "model.safetensors").exists()

    def test_of_the_model_directory_itself(self, base: Policy, tiny_model: Path, models: Path) -> None:
        shutil.copytree(tiny_model, models, dirs_exist_ok=True)
        self.check(register_policy(name="all", path=models), "does not lie in")

    def test_of_files_that_another_policy_has_too(self, base: Policy, tiny_model: Path) -> None:
        policy = result_of(base, tiny_model)
        register_policy(name="twin", path=Path(policy.path))
        self.check(policy, "twin has files in the same folder")


def test_no_file_goes_if_one_of_them_is_not_ours(models: Path, tmp_path: Path) -> None:
    ours, other = models / "one", tmp_path / "other"
    ours.write_text("a")
    other.write_text("b")
    with pytest.raises(ValueError, match="does not lie in"):
        policy_files.delete([ours, other])
    assert ours.exists()


class TestAfterwards:
    @pytest.fixture
    def gone(self, base: Policy, tiny_model: Path) -> Policy:
        policy = result_of(base, tiny_model)
        delete_weights(policy_id=policy.pk)
        return Policy.objects.get(pk=policy.pk)

    @pytest.mark.parametrize("use", [writing_of, server_weights])
    def test_who_wants_to_use_them_is_told(self, gone: Policy, use) -> None:
        with pytest.raises(EngineError, match="The weights of round-1 were deleted on"):
            use(gone)

    def test_no_run_is_begun(self, gone: Policy) -> None:
        make_prompt()
        with pytest.raises(CannotWrite, match="were deleted"):
            begin_or_join(policy=gone, count=3, engine="transformers")

    @pytest.mark.parametrize(
        ("command", "arguments"),
        [("write_stories", ["--policy", "round-1"]), ("export_policy", ["round-1", "/tmp/never"]),
         ("vllm_server", ["--policy", "round-1"])],
    )  # fmt: skip
    def test_commands_end_with_it(self, gone: Policy, command: str, arguments: list[str]) -> None:
        make_prompt()
        with pytest.raises(CommandError, match="were deleted"):
            call_command(command, *arguments)

    def test_weights_that_are_registered_again_are_used_again(self, gone: Policy, tiny_model: Path) -> None:
        register_policy(name="round-1", path=tiny_model, parent=gone.parent)
        gone.refresh_from_db()
        assert (gone.weights_deleted_at, gone.path) == (None, str(tiny_model))

    def test_the_license_that_only_the_folder_said_is_kept(self, base: Policy, tiny_model: Path, models: Path) -> None:
        shutil.copytree(tiny_model, models / "old")
        (models / "old" / "LICENSE").write_text("Apache License\n  Version 2.0, January 2004")
        policy = register_policy(name="old", path=models / "old")
        delete_weights(policy_id=policy.pk)
        assert Policy.objects.get(pk=policy.pk).license == "apache-2.0"


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_round_compares_with_a_base_without_weights_by_the_stories_that_it_has(
    base: Policy, tiny_model: Path
) -> None:
    """The base lacks a story of the only prompt; the others have written theirs."""
    Policy.objects.filter(pk=base.pk).update(is_current=False, weights_deleted_at=timezone.now())
    middle = make_policy("middle", current=True, parent=base)
    result = register_policy(name="round-1", path=tiny_model, parent=middle)
    prompt = make_prompt()
    for policy in (middle, result):
        for index in range(settings.STORIES_PER_PROMPT):
            make_story(policy, prompt, index)
    make_round(policy=middle, result=result)
    lease = take_round(Round.objects.get().pk)
    assert lease
    current = Round.objects.select_related("policy", "result").get()
    assert current.baselines() == [middle, base]
    _write(current, lease)
    assert not base.stories.exists()


def test_the_command_says_first_what_it_would_delete(base: Policy, tiny_model: Path, capsys) -> None:
    policy = result_of(base, tiny_model)
    call_command("delete_weights", "round-1", "--dry-run")
    assert policy.path in capsys.readouterr().out
    assert Path(policy.path).exists()
    call_command("delete_weights", "round-1")
    assert "are free" in capsys.readouterr().out
    assert not Path(policy.path).exists()


def test_the_page_deletes_only_what_is_ticked(
    client: Client, django_user_model, base: Policy, tiny_model: Path
) -> None:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    policy = result_of(base, tiny_model)
    address = f"/policies/{policy.pk}/delete-weights/"
    assert "Tick that" in client.post(address, follow=True).content.decode()
    assert Path(policy.path).exists()
    page = client.post(address, {"sure": "on"}, follow=True).content.decode()
    assert "The record, the stories and the figures are kept." in page
    logged = AuditEntry.objects.filter(kind="weights_deleted", object_id=policy.pk)
    assert [one.actor.username for one in logged] == ["boss"]
    assert not Path(policy.path).exists()
    assert "Its weights were deleted" in page
