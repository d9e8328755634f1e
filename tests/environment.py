"""Set before Django reads its settings (pytest -p tests.environment, in pyproject.toml)."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("STORYLOOP_TEST_VAR", ROOT / "var" / "test"))
# a server, models and exports of the suite's own
os.environ["STORYLOOP_VAR"] = str(VAR)
os.environ["STORYLOOP_DATABASE"] = "storyloop_test"
os.environ["STORYLOOP_MODEL_DIR"] = str(VAR / "models")
os.environ["STORYLOOP_MAX_STORY_TOKENS"] = "96"  # the tiny model has a context of 256
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright runs an event loop in the tests' thread
for name in ("DATABASE_URL", "CELERY_BROKER_URL", "STORYLOOP_BASE_MODEL", "STORYLOOP_DEMO"):
    os.environ.pop(name, None)
