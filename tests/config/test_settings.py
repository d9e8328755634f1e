"""Settings are driven by the environment and raise on nonsense; each case in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT


def load(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {"PATH": "/usr/bin:/bin", "STORYLOOP_VAR": str(tmp_path), **environment}
    return subprocess.run(
        [sys.executable, "manage.py", "diffsettings"], cwd=ROOT, env=values, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("STORYLOOP_DEBUG", "perhaps", "say true or false"),
        ("STORYLOOP_STORIES_PER_PROMPT", "9", "3 to 5"),
        ("STORYLOOP_STORIES_PER_PROMPT", "2", "3 to 5"),
        ("STORYLOOP_SECRET_KEY", "short", "50 characters"),
        ("DATABASE_URL", "sqlite:///x.db", "PostgreSQL only"),
        ("STORYLOOP_ENGINE", "gpt", "it may be transformers, vllm, vllm-server"),
        ("STORYLOOP_VLLM_GPU_MEMORY", "0.9", "1 to 100"),
        ("STORYLOOP_VLLM_GPU_MEMORY", "101", "1 to 100"),
        ("STORYLOOP_VLLM_MAX_MODEL_LEN", "-1", "0 or more"),
        ("STORYLOOP_VLLM_PATIENCE", "0", "1 or more"),
        ("STORYLOOP_SECOND_FACTOR", "yes", "may be admins, all, none"),
    ],
)
def test_nonsense_is_one_clear_line(tmp_path: Path, name: str, value: str, advice: str) -> None:
    done = load(tmp_path, **{name: value})
    assert done.returncode != 0
    assert name in done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


def test_the_secret_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    url = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    load(tmp_path, **url)
    kept = (tmp_path / "secret_key").read_text()
    load(tmp_path, **url)
    assert (tmp_path / "secret_key").read_text() == kept
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_a_var_folder_that_cannot_be_written_says_what_to_do() -> None:
    done = load(Path("/proc/storyloop"))
    assert done.returncode != 0
    assert "STORYLOOP_VAR" in done.stderr
    assert "Traceback" not in done.stderr


def said(tmp_path: Path, *names: str, **environment: str) -> dict[str, object]:
    code = f"import json; from config import settings; print(json.dumps([str(getattr(settings, n)) for n in {names}]))"
    values = {"PATH": "/usr/bin:/bin", "STORYLOOP_VAR": str(tmp_path), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=values, capture_output=True, text=True, check=True
    )
    return dict(zip(names, json.loads(done.stdout), strict=True))


def test_the_engine_that_needs_no_other_software_is_the_default(tmp_path: Path) -> None:
    names = ("ENGINE", "VLLM_URLS", "VLLM_API_KEY", "VLLM_GPU_MEMORY", "VLLM_MAX_MODEL_LEN", "VLLM_PATIENCE")
    assert list(said(tmp_path, *names).values()) == ["transformers", "[]", "", "90", "0", "120"]


def test_a_token_is_not_sent_where_everybody_reads_it(tmp_path: Path) -> None:
    done = load(tmp_path, STORYLOOP_HUB_ENDPOINT="http://127.0.0.1.example.org", STORYLOOP_HUB_TOKEN="hf_secret")
    assert done.returncode != 0
    assert "the token would be read on the way; say https" in done.stderr
    assert "hf_secret" not in done.stderr


def test_servers_that_are_not_named_are_asked_for(tmp_path: Path) -> None:
    done = load(tmp_path, STORYLOOP_ENGINE="vllm-server", STORYLOOP_VLLM_URLS=" , ")
    assert done.returncode != 0
    assert "STORYLOOP_VLLM_URLS is not set: name the servers" in done.stderr
    assert "Traceback" not in done.stderr


def test_vllms_servers_are_named_with_commas_between(tmp_path: Path) -> None:
    urls = " http://a:8100, http://b:8100/ ,"
    found = said(tmp_path, "ENGINE", "VLLM_URLS", STORYLOOP_ENGINE="vllm-server", STORYLOOP_VLLM_URLS=urls)
    assert found == {"ENGINE": "vllm-server", "VLLM_URLS": "['http://a:8100', 'http://b:8100/']"}


def test_vllms_python_stays_the_link_that_it_is(tmp_path: Path) -> None:
    """A virtual environment's Python knows itself by its own place."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert said(tmp_path, "VLLM_PYTHON", STORYLOOP_VLLM_PYTHON=str(link)) == {"VLLM_PYTHON": str(link)}


@pytest.mark.parametrize(
    ("given", "rule", "proxies"),
    [
        ({}, "admins", "0"),
        ({"STORYLOOP_DEMO": "true"}, "none", "0"),
        ({"STORYLOOP_BEHIND_PROXY": "true"}, "admins", "1"),
    ],
    ids=["a new installation", "the demo", "behind a proxy"],
)
def test_admins_need_a_second_factor_unless_it_is_the_demo(
    tmp_path: Path, given: dict, rule: str, proxies: str
) -> None:
    url = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    found = said(tmp_path, "SECOND_FACTOR", "ALLAUTH_TRUSTED_PROXY_COUNT", **url, **given)
    assert found == {"SECOND_FACTOR": rule, "ALLAUTH_TRUSTED_PROXY_COUNT": proxies}
