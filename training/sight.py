"""Whether this machine sees the files of a round: several machines share one folder of models and exports."""

import socket
from pathlib import Path

from django.conf import settings

from generation.runs import missing_count
from generation.stores import single
from generation.stores.folders import require
from generation.stores.places import apart, is_kept
from training.ends import Said, said
from training.models import Round


class NotVisible(ValueError):
    """Files of the round are not to be seen on this machine; the message names the machine and what to do."""


def check_sight(current: Round) -> None:
    """Raise NotVisible, or StoreFault, unless what the next part of the round reads is there, or can be fetched.
    `policy` and `result` are loaded."""
    if (
        not current.result
        and current.export_path
        and not single.get(Path(current.export_path), sha256=current.export_sha256).is_file()
    ):
        raise NotVisible(_not_seen(current.export_path, "STORYLOOP_EXPORT_DIR"))
    for path in _folders(current):
        if apart() and is_kept(path):
            require(Path(path))
        elif not Path(path).is_dir():
            raise NotVisible(_not_seen(path, "STORYLOOP_MODEL_DIR"))


def _folders(current: Round) -> list[str]:
    """Of the models: those that have stories to write, or what training begins from and is compared with."""
    if current.result:
        others = [policy for policy in current.baselines() if not policy.weights_deleted_at]
        lacking = [policy for policy in others if missing_count(policy, settings.STORIES_PER_PROMPT)]
        policies = [current.result, *lacking]
    else:
        policies = [current.policy, *([current.policy.lineage()[-1]] if current.reference == "base" else [])]
    return [policy.path for policy in policies]


def _not_seen(path: str, setting: str) -> Said:
    return said("not_visible", path=path, host=socket.gethostname(), setting=setting)
