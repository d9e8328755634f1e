"""What goes along when a policy leaves: its weights or its adapter, as transformers, peft and vLLM load them, with
its model card."""

import shutil
import sys
import tempfile
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from generation import policy_files
from generation.engines import processes
from generation.engines.values import EngineError
from generation.models import Policy
from generation.policies import require_weights
from generation.stores.folders import hold, listed
from generation.stores.places import apart, is_kept
from training.model_card import model_card


def full_entries(policy: Policy, *, here: bool = False) -> list[policy_files.Entry]:
    """The full weights: of a LoRA round, its adapter merged. EngineError if they are gone.

    here: as files of this machine, which are fetched from a model store apart and held until the process ends.
    """
    require_weights(policy)
    return _entries(policy, policy.path, model_card(policy), here=here)


def adapter_entries(policy: Policy, *, here: bool = False) -> list[policy_files.Entry]:
    """The adapter alone, which stands on the weights of the policy before. EngineError if there is none."""
    _require_adapter(policy)
    base = policy.parent.name if policy.parent else ""
    return _entries(policy, policy.adapter_path, model_card(policy, adapter=True), here=here, base_name=base)


def _entries(policy: Policy, path: str, card: str, *, here: bool, base_name: str = "") -> list[policy_files.Entry]:
    """From the model store where there is one: what this machine sees of it may be an outline."""
    origin = _origin(policy)
    if here:
        hold(Path(path))
    elif apart() and is_kept(path):
        return policy_files.stored_entries(listed(Path(path)), card, base_name=base_name, origin=origin)
    return policy_files.entries(Path(path), card, base_name=base_name, origin=origin)


def _origin(policy: Policy) -> Path:
    return policy.lineage()[-1].directory


def export(policy: Policy, directory: Path, *, adapter: bool = False, merge: bool = False) -> None:
    """Write the policy into `directory`, which appears whole or not at all. EngineError, OSError.

    merge: make the full weights anew from the policy before and the adapter, as where the merged ones are damaged.
    """
    if merge:
        _export_merged(policy, directory)
    else:
        policy_files.write_to(directory, adapter_entries(policy) if adapter else full_entries(policy))


def _export_merged(policy: Policy, directory: Path) -> None:
    """In a process of its own, which gives all of its memory back."""
    _require_adapter(policy)
    if policy.parent is None:
        raise EngineError(_("%(policy)s has no policy before it to merge with.") % {"policy": policy.name})
    require_weights(policy.parent)
    policy_files.require_empty(directory)
    hold(Path(policy.parent.path), Path(policy.adapter_path))
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        merged, log = work / "merged", work / "merge.log"
        command = [sys.executable, "-m", "training.dpo.merge", policy.parent.path, policy.adapter_path, str(merged)]
        process = processes.start(command, log=log, directory=settings.BASE_DIR)
        try:
            status = process.wait()
        finally:
            processes.stop(process)
        if status != 0:
            raise EngineError(f"{processes.last_words(log)} (exit status {status})")
        for entry in policy_files.entries(merged, model_card(policy), origin=_origin(policy)):
            if entry.source is None or entry.source.parent != merged:  # what came of the merge stays where it is
                (merged / entry.name).write_bytes(b"".join(entry.chunks()))
        merged.replace(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_adapter(policy: Policy) -> None:
    require_weights(policy)
    if not policy.adapter_path:
        raise EngineError(
            _("%(policy)s has full weights of its own, and no adapter: leave --adapter and --merge out.")
            % {"policy": policy.name}
        )
