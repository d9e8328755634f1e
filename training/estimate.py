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
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings as site
from django.db.models.functions import MD5, Length

from annotate.imports import NoTemplate, template_of
from annotate.pairs import Edited, PreferencePair, story_of
from generation.engines.loading import context_length
from generation.engines.values import EngineError
from generation.models import Policy, Story
from generation.sql import among
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


class Size(NamedTuple):
    """Of a story: its tokens and characters, the characters of the prompt that it was written for, and their MD5."""

    tokens: int
    characters: int
    of_prompt: int
    rendered: str


def sizes_of(pairs: Iterable[PreferencePair]) -> dict[int, Size]:
    """Of the pairs' stories, by id: their texts stay in the database."""
    ids = {story.pk for pair in pairs for story in (pair.chosen, pair.rejected)}
    told = ("token_ids__len", Length("text"), Length("rendered_prompt"), MD5("rendered_prompt"))
    rows = Story.objects.filter(pk__in=among(ids)).order_by().values_list("pk", *told)
    return {pk: Size(*size) for pk, *size in rows.iterator()}


def work_of(pairs: Collection[PreferencePair], sizes: Mapping[int, Size] | None = None) -> Work:
    """Of pairs as they will be frozen. sizes: of their stories, if they are known."""
    sizes = sizes_of(pairs) if sizes is None else sizes
    groups: dict[tuple[int, str], dict[Any, int]] = defaultdict(dict)
    prompts: dict[tuple[int, str], int] = {}
    longest = []
    for pair in pairs:
        story = story_of(pair.chosen)
        written = sizes[story.pk]
        group = story.prompt_id, written.rendered
        rate = written.tokens / max(written.characters, 1) or TOKENS_A_CHARACTER
        prompts[group] = math.ceil(rate * written.of_prompt)
        for side in (pair.chosen, pair.rejected):
            groups[group][side] = 1 + _tokens(side, sizes, rate)
        longest.append(prompts[group] + max(groups[group][pair.chosen], groups[group][pair.rejected]))
    read = [prompts[group] + sum(stories.values()) for group, stories in groups.items()]
    return Work(len(pairs), len(read), sum(read), max(read, default=0), tuple(sorted(longest, reverse=True)))


def _tokens(side: Story | Edited, sizes: Mapping[int, Size], rate: float) -> int:
    """`rate` a character where it has none of its own: what an expert has edited, or written."""
    if isinstance(side, Edited):
        return math.ceil(rate * len(side.text))
    size = sizes[side.pk]
    return size.tokens or math.ceil(rate * size.characters)


def work_of_imported(
    selection: Selection, policy: Policy, pairs: Iterable[PreferencePair], sizes: Mapping[int, Size]
) -> Work:
    """Of the selection's imported pairs, which nobody has tokenized: by their characters, at the tokens a character
    that `pairs`, whose stories have these `sizes`, have in the same language. Their texts stay in the
    database; only prompts are read, one by one."""
    if not selection.origins:
        return NOTHING
    rates, frame = _rates(pairs, sizes), _frame(policy)
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
    read = [prompts[group] + sum(texts.values()) for group, texts in groups.items()]
    return Work(len(longest), len(read), sum(read), max(read, default=0), tuple(sorted(longest, reverse=True)))


def _rates(pairs: Iterable[PreferencePair], sizes: Mapping[int, Size]) -> dict[str, float]:
    """Tokens a character of the chosen stories, by language and under "" of all."""
    tokens, characters = Counter[str](), Counter[str]()
    for story in {story_of(pair.chosen) for pair in pairs}:
        for name in (story.prompt.language, ""):
            tokens[name] += sizes[story.pk].tokens
            characters[name] += sizes[story.pk].characters
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
