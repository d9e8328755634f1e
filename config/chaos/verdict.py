"""What is left after the kills, against what people were told and what an unbroken run would have made."""

import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from django.db.models import Count

from annotate.models import Judgement, Revision
from config.chaos.killer import Kill
from config.chaos.people import Given
from config.chaos.plan import TARGETS, Phase, Target
from generation.engines.values import weights_hash
from generation.models import Policy
from training.changes import PolicyChange
from training.models import Round, RoundMetric, State
from training.run import trainer_command

ENDS = (State.PROMOTED, State.REJECTED, State.CANCELLED)


def judgements(given: list[Given]) -> dict[str, int]:
    """acknowledged: answers that somebody was told are kept. stored: those of them that are, once, as given."""
    stored = 0
    for answer in given:
        kept = Judgement.objects.filter(assignment__key=answer.assignment)
        sent = Revision.objects.filter(assignment__key=answer.assignment, key=answer.page, act="submitted")
        stored += kept.count() == 1 and sent.count() == 1 and sent.get().fields.get("best") == [str(answer.best)]
    return {"acknowledged": len(given), "stored": stored}


def doubled(seen: set[str]) -> list[str]:
    """Rounds of which something was done twice. seen: folders on which two trainers worked at a time."""
    found = [f"two trainers in {folder}" for folder in sorted(seen)]
    for again in PolicyChange.objects.filter(why="promoted").values("policy").annotate(n=Count("pk")).filter(n__gt=1):
        found.append(f"policy {again['policy']} was promoted {again['n']} times")
    for done in Round.objects.exclude(result=None):
        inside = Policy.objects.filter(path__startswith=str(done.folder)).count()
        steps = list(RoundMetric.objects.filter(round=done, held_out=False).values_list("step", flat=True))
        if inside != 1:
            found.append(f"round {done.number} made {inside} policies")
        if steps != list(range(1, len(steps) + 1)):
            found.append(f"round {done.number} lacks steps: it has {steps}")
    return found


def stuck() -> list[str]:
    return [f"round {left.number} is {left.state}" for left in Round.objects.exclude(state__in=ENDS)]


def half_written() -> list[str]:
    """Policies whose weights are not those that were registered, or are no whole file."""
    found = []
    for policy in Policy.objects.all():
        try:
            _read_whole(Path(policy.path))
            if weights_hash(Path(policy.path)) != policy.weights_hash:
                found.append(f"{policy.name}: other weights than were registered")
        except Exception as error:  # noqa: BLE001  whatever a broken file makes its reader raise
            found.append(f"{policy.name}: {error}")
    if Policy.objects.filter(is_current=True).count() != 1:
        found.append("not exactly one policy is in use")
    return found


def _read_whole(directory: Path) -> None:
    from safetensors import safe_open

    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:  # type: ignore[no-untyped-call]
            for name in tensors.keys():  # noqa: SIM118  no mapping
                tensors.get_slice(name).get_shape()


def interrupted(kills: list[Kill]) -> list[Round]:
    """Rounds whose training was hit."""
    hit = {kill.round for kill in kills if kill.phase is Phase.TRAINING}
    return list(Round.objects.filter(number__in=hit, state__in=ENDS).exclude(result=None).order_by("number"))


def not_identical(rounds: list[Round], tick: Any = lambda: None) -> list[str]:
    """Rounds whose weights are not, bit for bit, those of the same command run without a break."""
    found = []
    for done in rounds:
        assert done.result is not None
        with tempfile.TemporaryDirectory(prefix="storyloop-unbroken-") as folder:
            out = Path(folder)
            ran = subprocess.run(trainer_command(done, out), capture_output=True, text=True, check=False)
            if ran.returncode != 0:
                found.append(f"round {done.number}: the unbroken run failed: {ran.stderr[-300:]}")
            elif weights_hash(out / "policy") != weights_hash(done.folder / "policy"):
                found.append(f"round {done.number}: other weights than an unbroken run's")
        tick()
    return found


def table(counts: Counter[tuple[Phase, Target]]) -> str:
    """Kills by what was going on and what was hit."""
    rows = [["", *(str(target) for target in Target), "all"]]
    for phase in Phase:
        cells = [str(counts[phase, target]) if target in TARGETS[phase] else "-" for target in Target]
        rows.append([str(phase), *cells, str(sum(n for (of, _), n in counts.items() if of is phase))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
