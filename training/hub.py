"""Putting a policy on the Hugging Face Hub, or on a server that speaks like it."""

import os
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from generation.policy_files import Entry


class CannotPush(RuntimeError):
    """Nothing was pushed; the message says why and what to do."""


def push(found: Sequence[Entry], repo: str, *, public: bool, message: str) -> str:
    """Upload the files in one commit, made private if the repository is new; its address. Raises CannotPush.

    From where the files lie: no copy is made. A repository that is there keeps its visibility.
    """
    if not settings.HUB_TOKEN:
        raise CannotPush(
            "STORYLOOP_HUB_TOKEN is not set: make a token that may write (huggingface.co, Settings, Access Tokens), "
            "and put it into the environment of this command alone."
        )
    api, operation, errors = _library()
    operations = [operation(entry.name, str(entry.source) if entry.source else entry.content) for entry in found]
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        done = api.create_commit(repo, operations, commit_message=message)
    except errors as error:
        raise CannotPush(f"{settings.HUB_ENDPOINT} did not take it: {error}") from error
    return str(done.commit_url)


def _library() -> tuple[Any, Any, tuple[type[Exception], ...]]:
    """(the Hub's client with our token and address, its operation that adds a file, what it raises)"""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise CannotPush("HF_HUB_OFFLINE is set: unset it for this command, and give it again.")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise CannotPush("huggingface_hub is not installed here: pip install huggingface_hub") from error
    api = HfApi(endpoint=settings.HUB_ENDPOINT, token=settings.HUB_TOKEN)
    # the bases are the errors of its HTTP library, which changes with its versions: a server that is not there
    return api, CommitOperationAdd, (*HfHubHTTPError.__bases__, ValueError, LookupError, RuntimeError)
