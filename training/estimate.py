"""How long a round's training will take, and how much memory, before it is launched. No torch here.

Time: (tokens * epochs + tokens / 3) / tokens a second. A step reads each token forward and backward, as much as
three forward passes; the reference reads each token once. Tokens a second are those of the newest round whose
figures still lie here, by the model's size. Where none was measured, they are the machine's assumed speed over
6 operations a parameter and token (Kaplan et al., 2020, section 2.1): right within a factor of three, perhaps.
Writing the new stories comes on top.
"""

import hashlib
import json
import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db.models.functions import MD5, Length

from annotate.imports import NoTemplate, template_of
from annotate.pairs import PreferencePair, story_of
from generation.engines.loading import context_length
from generation.engines.values import EngineError
from generation.models import Policy
from generation.stores import single
from training import imported
from training.dpo.settings import DPOSettings
from training.dpo.shapes import memory, shapes
from training.launching import TRAINER_SETTINGS
from training.models import Round
from training.selection import Selection
from training.steps import metric_files, read_lines

CPU_OPERATIONS, GPU_OPERATIONS = 50e9, 100e12  # a second: of a core with AVX2 or better, of a data-centre GPU
START_SECONDS = 10.0  # until the model is loaded
AT_ONCE = {"cpu": 1024, "gpu": 16384}  # tokens in the model, as training/dpo/run.py has it
TOKENS_A_CHARACTER = 1.0  # of a prompt, where no story tells


@dataclass(frozen=True)
class Work:
    """What the trainer reads in an epoch: each distinct story once, and once the prompt of a group of them.

    largest: tokens of the largest group. longest: tokens of each pair's prompt and longer story, most first.
    """

    pairs: int
    groups: int
    tokens: int
    largest: int
    longest: tuple[int, ...]

    def __add__(self, other: "Work") -> "Work":
        """Of both, where no group is in both."""
        return Work(
            pairs=self.pairs + other.pairs,
            groups=self.groups + other.groups,
            tokens=self.tokens + other.tokens,
            largest=max(self.largest, other.largest),
            longest=tuple(sorted(self.longest + other.longest, reverse=True)),
        )


NOTHING = Work(0, 0, 0, 0, ())


@dataclass(frozen=True)
class Estimate:
    """seconds: of training. measured: the round whose speed was taken; None: assumed. Memory and disk in bytes.

    too_long: pairs that the model cannot read whole, which are left out.
    """

    parameters: int
    tokens: int
    steps: int
    seconds: float
    measured: int | None
    device: str
    memory: float
    memory_free: float
    disk: float
    disk_free: float
    too_long: int

    @property
    def short_of(self) -> str:
        """ "memory", "disk" or nothing."""
        if self.memory > self.memory_free:
            return "memory"
        return "disk" if self.disk > self.disk_free else ""


def work_of(pairs: Iterable[PreferencePair]) -> Work:
    """Of pairs as they will be frozen."""
    groups: dict[tuple[int, str], dict[Any, int]] = defaultdict(dict)
    prompts: dict[tuple[int, str], int] = {}
    longest, count = [], 0
    for pair in pairs:
        count += 1
        written = story_of(pair.chosen)
        group = written.prompt_id, written.rendered_prompt
        rate = len(written.token_ids) / max(len(written.text), 1) or TOKENS_A_CHARACTER
        prompts[group] = math.ceil(rate * len(written.rendered_prompt))
        for side in (pair.chosen, pair.rejected):
            ids = side.token_ids  # none of a story that an expert has edited
            groups[group][side] = 1 + (len(ids) if ids else math.ceil(rate * len(side.text)))
        longest.append(prompts[group] + max(groups[group][pair.chosen], groups[group][pair.rejected]))
    sizes = [prompts[group] + sum(stories.values()) for group, stories in groups.items()]
    return Work(count, len(sizes), sum(sizes), max(sizes, default=0), tuple(sorted(longest, reverse=True)))


def work_of_imported(selection: Selection, policy: Policy, pairs: Iterable[PreferencePair]) -> Work:
    """Of the selection's imported pairs, which nobody has tokenized: by their characters, at the tokens a character
    that `pairs` have in the same language. Their texts stay in the database; only prompts are read, one by one."""
    if not selection.origins:
        return NOTHING
    rates, frame = _rates(pairs), _frame(policy)
    prompts: dict[bytes, int] = {}
    groups: dict[bytes, dict[str, int]] = defaultdict(dict)
    longest = []
    sides = (MD5("chosen"), Length("chosen"), MD5("rejected"), Length("rejected"))
    about = ("prompt", "origin__rendered", "origin__language")
    for asked, rendered, language, *texts in imported.of(selection).values_list(*about, *sides).iterator():
        rate = rates.get(language) or rates.get("") or TOKENS_A_CHARACTER
        group = hashlib.sha256(json.dumps([asked, rendered]).encode()).digest()
        characters = sum(len(message["content"]) for message in asked) + (0 if rendered else frame)
        prompts[group] = math.ceil(rate * characters)
        lengths = [1 + math.ceil(rate * length) for length in texts[1::2]]
        groups[group].update(zip(texts[::2], lengths, strict=True))
        longest.append(prompts[group] + max(lengths))
    sizes = [prompts[group] + sum(stories.values()) for group, stories in groups.items()]
    return Work(len(longest), len(sizes), sum(sizes), max(sizes, default=0), tuple(sorted(longest, reverse=True)))


def _rates(pairs: Iterable[PreferencePair]) -> dict[str, float]:
    """Tokens a character of the chosen stories, by language and under "" of all."""
    tokens, characters = Counter[str](), Counter[str]()
    for story in {story_of(pair.chosen) for pair in pairs}:
        for name in (story.prompt.language, ""):
            tokens[name] += len(story.token_ids)
            characters[name] += len(story.text)
    return {name: tokens[name] / characters[name] for name in tokens if tokens[name] and characters[name]}


def _frame(policy: Policy) -> int:
    """Characters of the chat template around a prompt."""
    try:
        return sum(map(len, template_of(policy)))
    except NoTemplate:  # launching says so
        return 0


def estimate(policy: Policy, settings: dict[str, Any], parts: list[Work]) -> Estimate:
    """Of a round from `policy`. parts: of each stage, or of the whole. Raises EngineError if its model cannot be
    read."""
    model = policy.directory
    limit = min(context_length(model), DPOSettings().max_tokens)  # says what is missing, too
    found = shapes(model)
    trainer = DPOSettings(**{name: settings[name] for name in TRAINER_SETTINGS if name in settings})
    device = "gpu" if Path("/dev/nvidia0").exists() else "cpu"
    epochs = trainer.epochs * (1 - trainer.eval_share)
    tokens = sum(part.tokens for part in parts)
    speed, measured = tokens_a_second(found.parameters, device)
    at_once = max([AT_ONCE[device], *(part.largest for part in parts)])
    return Estimate(
        parameters=found.parameters,
        tokens=tokens,
        steps=trainer.epochs * sum(_steps(part, trainer) for part in parts),
        seconds=START_SECONDS + tokens * (epochs + 1 / 3) / speed,
        measured=measured,
        device=device,
        memory=memory(found, trainer, at_once, bf16=device == "gpu"),
        memory_free=memory_free(device),
        disk=_disk(found.parameters, trainer.method, len(parts)),
        disk_free=shutil.disk_usage(_existing(site.MODEL_DIR)).free,
        too_long=sum(1 for part in parts for length in part.longest if length > limit),
    )


def _steps(part: Work, trainer: DPOSettings) -> int:
    """Of an epoch, about: a batch takes whole groups until it has its pairs."""
    if not part.pairs:
        return 0
    groups = max(math.ceil(trainer.batch_pairs * part.groups / part.pairs), 1)
    return math.ceil((part.groups - round(part.groups * trainer.eval_share)) / groups)


def tokens_a_second(parameters: int, device: str) -> tuple[float, int | None]:
    """(speed of training a model of that size, number of the round it was measured on or None)."""
    for last in Round.objects.exclude(result=None).select_related("policy", "result")[:5]:
        assert last.result is not None
        out = Path(last.result.path).parent
        lines = [
            line
            for path in metric_files(last, out)
            for line in read_lines(single.find(path))
            if "tokens_per_second" in line
        ]
        seconds = tokens = 0.0
        before = 0
        for line in lines:
            new = line["num_tokens"] - (before if line["num_tokens"] > before else 0)
            before = line["num_tokens"]
            tokens, seconds = tokens + new, seconds + new / max(line["tokens_per_second"], 1e-9)
        try:
            size = shapes(last.policy.directory).parameters
        except (OSError, ValueError, EngineError):
            continue
        if seconds:
            return tokens / seconds * size / max(parameters, 1), last.number
    operations = GPU_OPERATIONS if device == "gpu" else CPU_OPERATIONS * len(os.sched_getaffinity(0))
    return operations / (6 * max(parameters, 1)), None


def memory_free(device: str) -> float:
    """Bytes that this machine's memory has left; infinitely many where it does not say, as a GPU's here."""
    path = Path("/proc/meminfo")
    if device == "gpu" or not path.exists():
        return math.inf
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return float(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else math.inf


def _disk(parameters: int, method: str, stages: int) -> float:
    """The result, and beside it a checkpoint with AdamW's two averages while it trains; of each stage's result."""
    weights = 4.0 * parameters
    return 2 * weights if method == "lora" else weights * (3 + 1 + stages)


def _existing(path: Path) -> Path:
    return path if path.exists() or path == path.parent else _existing(path.parent)
