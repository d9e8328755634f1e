"""What a trial begins with: fewer prompts than are shipped, and an admin's token."""

import json
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model

from config import setup
from config.tokens import make_token
from generation.models import Split


def some_prompts(counts: Mapping[Split, int]) -> Path:
    """As many of the shipped prompts of each split as a short round needs."""
    lines = setup.SHIPPED_PROMPTS.read_text().splitlines()
    chosen: list[str] = []
    for split, count in counts.items():
        chosen += [line for line in lines if json.loads(line)["split"] == split][:count]
    path = Path(settings.VAR_DIR) / "some-prompts.jsonl"
    path.write_text("\n".join(chosen) + "\n")
    return path


def admin_token(of: str) -> str:
    user = get_user_model().objects.create_user(f"{of}-admin", is_staff=True)
    return make_token(user=user, name=f"make {of}", days=1)[1]
