"""What is left after a trial, against what people were told."""

from collections import defaultdict
from pathlib import Path

from django.db.models import Count

from annotate.models import Judgement, Revision
from config.trials.people import Given
from generation.engines.values import weights_hash
from generation.models import Policy
from training.changes import PolicyChange
from training.models import Round, RoundMetric, State

CHUNK = 1000
ENDS = (State.PROMOTED, State.REJECTED, State.CANCELLED)


def judgements(given: list[Given]) -> dict[str, int]:
    """acknowledged: answers that somebody was told are kept. stored: those of them that are, once, as given."""
    lost, twice = unkept(given)
    return {"acknowledged": len(given), "stored": len(given) - len(lost) - len(twice)}


def unkept(given: list[Given]) -> tuple[list[Given], list[Given]]:
    """Acknowledged answers that are not there as given, and those that are there more than once."""
    lost, twice = [], []
    for start in range(0, len(given), CHUNK):
        part = given[start : start + CHUNK]
        keys = [answer.assignment for answer in part]
        judged = Judgement.objects.filter(assignment__key__in=keys).values_list("assignment__key", flat=True)
        there = {str(key) for key in judged}
        sent = defaultdict(list)
        submitted = Revision.objects.filter(assignment__key__in=keys, act="submitted")
        for assignment, page, fields in submitted.values_list("assignment__key", "key", "fields"):
            sent[str(assignment)].append((str(page), fields.get("best")))
        for answer in part:
            found = sent[answer.assignment]
            if answer.assignment not in there or (answer.page, [str(answer.best)]) not in found:
                lost.append(answer)
            elif len(found) > 1:  # nobody in a trial changes an answer
                twice.append(answer)
    return lost, twice


def doubled(seen: set[str]) -> list[str]:
    """Rounds of which something was done twice. seen: folders on which two trainers worked at a time."""
    found = [f"two trainers in {folder}" for folder in sorted(seen)]
    for again in PolicyChange.objects.filter(why="promoted").values("policy").annotate(n=Count("pk")).filter(n__gt=1):
        found.append(f"policy {again['policy']} was promoted {again['n']} times")
    for done in Round.objects.exclude(result=None):
        inside = sum(Path(policy.path).is_relative_to(done.folder) for policy in Policy.objects.all())
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
