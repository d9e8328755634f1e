"""A download of weights that broke off is continued: by a real client, from a real server, to the same bytes."""

import http.client
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from django.test import Client

from generation.models import Policy
from generation.policy_files import Entry, Tar
from tests.factories import make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """Weights of 9 MB, none of which is like another."""
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(random.Random(7).randbytes(9_000_001))
    found = make_policy("round-1", current=True)
    Policy.objects.filter(pk=found.pk).update(path=str(folder))
    return Policy.objects.get(pk=found.pk)


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


def get(admin: Client, policy: Policy, method: str = "GET", **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return admin.generic(method, f"/policies/{policy.pk}/weights.tar", headers=named)


def body(answer) -> bytes:
    return b"".join(answer.streaming_content)


def test_every_part_of_a_tar_is_the_part_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(range(200)) * 4)
    tar = Tar("a", [Entry("w", 800, 5, tmp_path / "w"), Entry("empty", 0, 5), Entry("README.md", 3, 5, None, b"abc")])
    whole = b"".join(tar)
    places = [*range(0, len(whole), 97), 511, 512, 513, 1311, 1312, len(whole) - 1, len(whole)]
    assert all(b"".join(tar.part(a, b)) == whole[a:b] for a in places for b in places)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=5000000-", 5_000_000, None), ("bytes=10-19", 10, 20), ("bytes=-700", -700, None), ("bytes=0-0", 0, 1)],
)
def test_a_range_is_answered_with_that_part(admin: Client, policy: Policy, asked: str, first: int, end: int) -> None:
    whole = get(admin, policy)
    content = body(whole)
    assert (whole.status_code, whole["Accept-Ranges"], int(whole["Content-Length"])) == (200, "bytes", len(content))
    part = get(admin, policy, Range=asked)
    found = body(part)
    assert (part.status_code, part["ETag"]) == (206, whole["ETag"])
    assert found == content[first:end]
    begins = first % len(content)
    assert part["Content-Range"] == f"bytes {begins}-{begins + len(found) - 1}/{len(content)}"
    assert int(part["Content-Length"]) == len(found)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-5", "bytes=-", "lines=1-2", "bytes=" + "9" * 5000 + "-"])
def test_a_range_that_cannot_be_meant_gives_the_whole(admin: Client, policy: Policy, asked: str) -> None:
    assert get(admin, policy, Range=asked).status_code == 200


def test_a_range_behind_the_end_is_refused_with_the_size(admin: Client, policy: Policy) -> None:
    size = get(admin, policy, "HEAD")["Content-Length"]
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = get(admin, policy, Range=asked)
        assert (answer.status_code, answer["Content-Range"]) == (416, f"bytes */{size}")


def test_other_weights_under_the_same_address_are_not_put_together(admin: Client, policy: Policy) -> None:
    tag = get(admin, policy, "HEAD")["ETag"]
    assert get(admin, policy, Range="bytes=5-", If_Range=tag).status_code == 206
    (policy.directory / "model.safetensors").write_bytes(random.Random(8).randbytes(9_000_001))
    assert get(admin, policy, "HEAD")["ETag"] != tag
    assert get(admin, policy, Range="bytes=5-", If_Range=tag).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_curl_continues_a_download_that_was_cut_off(live_server, admin: Client, policy: Policy, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("There is no curl here.")
    session = f"sessionid={admin.cookies['sessionid'].value}"
    path, file = f"/policies/{policy.pk}/weights.tar", tmp_path / "weights.tar"
    connection = http.client.HTTPConnection(live_server.thread.host, live_server.thread.port, timeout=60)
    connection.request("GET", path, headers={"Cookie": session})
    file.write_bytes(connection.getresponse().read(4_321_987))
    connection.close()  # in the middle of the weights
    command = ["curl", "-sSf", "-C", "-", "-b", session, "-o", str(file), "-w", "%{http_code} %{size_download}"]
    done = subprocess.run([*command, live_server.url + path], capture_output=True, text=True, timeout=60, check=True)
    status, sent = done.stdout.split()
    assert (status, int(sent)) == ("206", file.stat().st_size - 4_321_987)
    with tarfile.open(file) as tar:
        held = tar.extractfile("round-1/model.safetensors")
        assert held
        assert held.read() == (policy.directory / "model.safetensors").read_bytes()
        assert tar.getnames()[-1] == "round-1/README.md"
