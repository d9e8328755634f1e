"""What is said of a round's end, in a form that a page can say in its reader's language.

A code and its values are stored beside the English words (Round.said); an operating system's or a trainer's own
words stay as they are, as one of the values.
"""

import signal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

from generation import run_words
from generation.engines import processes, whole
from generation.engines.faults import DISK_FULL, free_in, has_room, is_disk_full
from generation.engines.values import EngineError
from generation.models import Policy
from generation.stores.faults import StoreFault
from generation.stores.folders import seen_or_fault
from training.dpo.settings import OUT_OF_MEMORY

WORDS = {
    "cancelled": _(
        "Cancelled by an admin. All judgements are kept: resume the round, or launch a new one, when you like."
    ),
    "disk_full": _(
        "The disk of %(folder)s is full: %(free)s are free, and what was to be written did not fit. Free some space, "
        "then resume the round: it goes on from its last checkpoint, and nothing is lost."
    ),
    "unwritable": _(
        "%(error)s. Mend the folder, then resume the round: it goes on from its last checkpoint, and nothing is lost."
    ),
    "out_of_memory": _(
        "There was not enough memory. %(words)s Let nothing else use it and resume the round, or launch it again with "
        "LoRA or a smaller model."
    ),
    "killed": _(
        "The process was killed (signal 9), most often for want of memory: the system log (dmesg) says so then. Resume "
        "the round: it goes on from its last checkpoint. If it happens again, launch it with LoRA or a smaller model."
    ),
    "signalled": _(
        "The process was ended by signal %(number)d (%(name)s). Resume the round: it goes on from its last checkpoint. "
        "(All of its output: %(log)s)"
    ),
    "failed": _(
        "%(words)s Mend that, then resume the round, or launch it again with changes. (exit status %(status)d; all of "
        "it: %(log)s)"
    ),
    "no_weights": _(
        "The weights of %(policy)s cannot be used: %(error)s Put the folder back where it was, then resume the round."
    ),
    "not_visible": _(
        "%(path)s cannot be seen by the worker on %(host)s. If it lies on another machine, mount the folder that they "
        "share there, at the same path (%(setting)s, docs/workers.md); if it was moved, put it back. Then resume the "
        "round."
    ),
    "store_unreachable": _(
        "The model store %(store)s does not answer (%(error)s). Nothing is lost: check the network and the store, then "
        "resume the round."
    ),
    "store_refused": _(
        "The model store %(store)s refuses the worker's machine (%(error)s). Check its settings and its key "
        "(STORYLOOP_MODEL_STORE, STORYLOOP_S3_ACCESS_KEY; manage.py doctor tries them), then resume the round."
    ),
    "store_busy": _(
        "Another process on the worker's machine uses another copy of %(key)s than the model store %(store)s has. End "
        "it (a run, vLLM), then resume the round."
    ),
    "store_unmounted": _(
        "The model store %(store)s is not mounted on the worker's machine: the folder has no file %(mark)s. Mount it, "
        "then resume the round."
    ),
    "store_missing": _(
        "The model store %(store)s has no whole %(key)s. Put it back there (manage.py publish_models, on a machine "
        "that has it), then resume the round."
    ),
    "store_damaged": _(
        "%(file)s in the model store %(store)s is not what was stored: its SHA-256 differs. Put it back there "
        "(manage.py publish_models --again, on a machine that has it whole), then resume the round."
    ),
    "older_worker": _(
        "A worker on %(host)s runs Storyloop %(worker)s, this round was launched by %(round)s: update that worker "
        "(docs/workers.md). Without a newer one the round ends after %(minutes)d minutes; resume it then."
    ),
    "pairs_changed": _(
        "The frozen pairs in %(path)s have changed since they were frozen. Nothing was trained on them. Launch a new "
        "round."
    ),
    "nothing_to_compare": _(
        "There is nothing to compare: no prompt has split “evaluation” with finished stories of both policies. Import "
        "evaluation prompts (manage.py import_prompts), then resume the round."
    ),
    "given_up": _(
        "The round was begun %(times)d times and its process died each time. Look into the worker's log (often it is "
        "memory: try LoRA or a smaller model), then launch it again."
    ),
    "resumed": _("Resumed. It had ended with: %(before)s"),
}


class Said(str):
    """Words in English that know their code and values."""

    code: str
    values: dict[str, Any]

    def stored(self) -> dict[str, Any]:
        """For Round.said."""
        return {"code": self.code, **self.values}


def said(code: str, **values: Any) -> Said:
    """values: what JSON can hold; one may be what another message has stored."""
    with override("en"):
        return _said(in_words({"code": code, **values}), code, values)


def _said(words: str, code: str, values: dict[str, Any]) -> Said:
    found = Said(words)
    found.code, found.values = code, values
    return found


def in_words(stored: dict[str, Any]) -> str:
    """In the language of whoever reads; "" for a code that is not known."""
    if stored.get("code") == "written":
        return run_words.in_words(stored)
    if stored.get("code") not in WORDS:
        return ""
    values = {name: in_words(value) if isinstance(value, dict) else value for name, value in stored.items()}
    return str(WORDS[stored["code"]]) % values


def require_whole_weights(policy: Policy) -> None:
    """Raise EngineError, with a Said, if the files of `policy` are not all where they were."""
    try:
        whole.require_whole(seen_or_fault(Path(policy.path)))
    except StoreFault:
        raise
    except EngineError as error:
        raise EngineError(said("no_weights", policy=policy.name, error=str(error))) from error


def of_writing(line: dict[str, Any]) -> str:
    """The note in a line of write_stories --json."""
    return _said(line["note"], "written", line["facts"]) if line["facts"] else str(line["note"])


def of_error(error: Exception) -> str:
    """Its words; a Said if it was raised with one, or has a code for one."""
    if isinstance(error, StoreFault):
        return said(error.code, **error.values)
    return error.args[0] if error.args and isinstance(error.args[0], Said) else str(error)


def of_process(status: int, log: Path) -> Said:
    """How a process that trains, merges or writes has ended, by its exit status; `log`: where its own words are."""
    if status == DISK_FULL or (status > 0 and not has_room(log.parent)):
        return disk_full(log.parent)
    if status == OUT_OF_MEMORY:
        return said("out_of_memory", words=processes.last_words(log, lines=1))
    if status == -signal.SIGKILL:
        return said("killed")
    if status < 0:
        return said("signalled", number=-status, name=signal.strsignal(-status) or "?", log=str(log))
    return said("failed", words=processes.last_words(log), status=status, log=str(log))


def of_os_error(error: OSError, folder: Path) -> Said:
    """folder: where the work was writing."""
    return disk_full(folder) if is_disk_full(error) else said("unwritable", error=str(error))


def disk_full(folder: Path) -> Said:
    """folder: where the work was writing, unless it is another of this installation's that has no room at all."""
    ours = [Path(one) for one in (settings.MODEL_DIR, settings.EXPORT_DIR, settings.VAR_DIR)]
    found = next((one for one in (folder, *ours) if not has_room(one)), folder)
    return said("disk_full", folder=str(found), free=free_in(found))
