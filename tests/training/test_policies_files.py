"""What leaves: a .tar or a folder that transformers and peft load, with the model card."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from django.core.management import CommandError, call_command
from django.test import Client
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from generation.models import Policy
from generation.policies import register_policy
from generation.policy_files import Entry, Tar
from tests.generation.lora import logits, make_adapter, merged

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(an adapter on the tiny model, the two merged)"""
    folder = tmp_path_factory.mktemp("trained")
    adapter = make_adapter(tiny_model, folder / "adapter")
    return adapter, merged(tiny_model, adapter, folder / "merged")


@pytest.fixture
def policy(tiny_model: Path, trained: tuple[Path, Path]) -> Policy:
    """What a LoRA round has made."""
    base = register_policy(name="base", path=tiny_model)
    return register_policy(name="round-1", path=trained[1], adapter_path=trained[0], parent=base)


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


def unpacked(response, to: Path) -> Path:
    """The download, checked: as long as was said, and a whole .tar of one folder."""
    body = b"".join(response.streaming_content)
    assert len(body) == int(response.headers["Content-Length"])
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        tar.extractall(to, filter="data")
    (folder,) = to.iterdir()
    return folder


@torch.no_grad()
def computed(folder: Path, base: Path | None = None) -> torch.Tensor:
    """The logits of the same tokens as tests.generation.lora has them, loaded the way that the card says."""
    model = AutoModelForCausalLM.from_pretrained(base or folder)
    if base:
        model = PeftModel.from_pretrained(model, folder)
    return model.eval()(torch.arange(2, 40)[None]).logits


def test_full_weights_that_are_downloaded_are_the_policy(
    admin: Client, policy: Policy, tiny_model: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = unpacked(admin.get(f"/policies/{policy.pk}/weights.tar"), tmp_path / "out")
    assert folder.name == "round-1"
    expected = logits(tiny_model, trained[0])
    assert torch.allclose(computed(folder), expected, rtol=0, atol=1e-4)
    assert not torch.allclose(computed(tiny_model), expected, atol=1e-2)
    assert AutoTokenizer.from_pretrained(folder).encode("从前 a fox") == AutoTokenizer.from_pretrained(
        tiny_model
    ).encode("从前 a fox")


def test_the_adapter_that_is_downloaded_stands_on_the_policy_before(
    admin: Client, policy: Policy, tiny_model: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = unpacked(admin.get(f"/policies/{policy.pk}/adapter.tar"), tmp_path / "out")
    assert torch.equal(computed(folder, tiny_model), logits(tiny_model, trained[0]))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 60_000


def test_nothing_of_this_machine_and_no_code_goes_along(
    admin: Client, policy: Policy, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    (trained[0] / "optimizer.pt").write_bytes(b"pickle")
    (trained[0] / "modeling.py").write_text("import os")
    folder = unpacked(admin.get(f"/policies/{policy.pk}/adapter.tar"), tmp_path / "out")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert not [file for file in folder.iterdir() if str(trained[0].parent).encode() in file.read_bytes()]
    assert "base_model" not in (folder / "README.md").read_text().split("---")[1]  # its name on the Hub is not known


def test_the_license_of_the_base_goes_along(admin: Client, tiny_model: Path, policy: Policy, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "LICENSE").write_text("Apache License, Version 2.0")
    Policy.objects.filter(name="base").update(path=str(origin))
    folder = unpacked(admin.get(f"/policies/{policy.pk}/weights.tar"), tmp_path / "out")
    assert (folder / "LICENSE").read_text() == "Apache License, Version 2.0"
    assert 'license: "apache-2.0"' in (folder / "README.md").read_text()


def test_weights_that_are_not_there_are_said_to_be_so(admin: Client, policy: Policy) -> None:
    Policy.objects.update(path="/nowhere/model")
    page = admin.get(f"/policies/{policy.pk}/weights.tar", follow=True).content.decode()
    assert "the weights are not there" in page
    assert admin.get(f"/policies/{policy.parent_id}/adapter.tar").status_code == 404


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 9_000, 10_240])
def test_the_length_of_a_tar_is_known_before_it_is_read(tmp_path: Path, size: int) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"w" * size)
    tar = Tar("名" * 60, [Entry(file.name, size, 0, file), Entry("README.md", 3, 0, None, b"abc")])
    body = b"".join(tar)
    assert len(body) == tar.size
    with tarfile.open(fileobj=io.BytesIO(body)) as found:
        read = {member.name.rsplit("/", 1)[-1]: found.extractfile(member) for member in found.getmembers()}
        assert {name: held.read() for name, held in read.items() if held} == {
            file.name: b"w" * size,
            "README.md": b"abc",
        }


def test_a_file_of_more_than_eight_gigabytes_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "w").touch()
    size = 9 << 30
    body = next(iter(Tar("a", [Entry("w", size, 0, tmp_path / "w")])))
    assert tarfile.TarInfo.frombuf(body[-512:], "utf-8", "strict").size in (size, 0)
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.next().size == size


def test_a_file_that_became_shorter_breaks_the_download_off(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"short")
    with pytest.raises(OSError, match="became shorter"):
        b"".join(Tar("a", [Entry("w", 10, 0, tmp_path / "w")]))


class TestCommand:
    def test_full_weights(self, policy: Policy, tmp_path: Path, trained: tuple[Path, Path]) -> None:
        call_command("export_policy", "round-1", str(tmp_path / "out"))
        assert torch.equal(computed(tmp_path / "out"), computed(trained[1]))
        assert (tmp_path / "out" / "README.md").read_text().startswith("---\n")

    def test_the_adapter(self, policy: Policy, tmp_path: Path, tiny_model: Path, trained: tuple[Path, Path]) -> None:
        call_command("export_policy", "round-1", str(tmp_path / "out"), "--adapter")
        assert torch.equal(computed(tmp_path / "out", tiny_model), logits(tiny_model, trained[0]))

    @pytest.mark.slow
    def test_a_merge_anew(self, policy: Policy, tmp_path: Path, tiny_model: Path, trained: tuple[Path, Path]) -> None:
        """Of the base and the adapter: the merged weights may be damaged."""
        Policy.objects.filter(name="round-1").update(path="/nowhere/merged")
        call_command("export_policy", "round-1", str(tmp_path / "out"), "--merge")
        assert torch.allclose(computed(tmp_path / "out"), logits(tiny_model, trained[0]), rtol=0, atol=1e-4)
        assert "round-1" in (tmp_path / "out" / "README.md").read_text()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_nothing_is_written_over(self, policy: Policy, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(CommandError, match="is there already"):
            call_command("export_policy", "round-1", str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_policy_without_an_adapter_says_so(self, policy: Policy, tmp_path: Path) -> None:
        for option in ("--adapter", "--merge"):
            with pytest.raises(CommandError, match="no adapter"):
                call_command("export_policy", "base", str(tmp_path / "out"), option)
