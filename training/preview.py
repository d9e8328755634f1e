"""What a round would be trained on, before it is launched: counts, coverage, a few pairs, and what to think over.

A theme, story type, language or age band is thin if fewer than MIN_PROMPTS of its prompts have a pair, or if its
share of the prompts with pairs is less than LOW_SHARE of its share of all training prompts. A policy hardly learns
what it is hardly shown, and the alarms' held-out prompts may then have none of it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.agreement import agreement, flipped_pairs
from annotate.models import Judgement, JudgementQuerySet
from annotate.pairs import OVERALL, Edited, PreferencePair, story_of, with_texts
from generation.engines.loading import check_model_directory
from generation.engines.values import EngineError
from generation.local_cache import cache
from generation.models import Language, Policy, Prompt, Split, Story
from generation.sql import among
from training import imported
from training import selection as selections
from training.estimate import Estimate, Work, estimate, sizes_of, work_of, work_of_imported
from training.launching import Launch
from training.selection import Selection
from training.templatetags.figures import plain

MIN_PROMPTS, LOW_SHARE = 5, 0.5
DIMENSIONS = {
    "language": gettext_lazy("language"),
    "theme": gettext_lazy("theme"),
    "story_type": gettext_lazy("story type"),
    "age_band": gettext_lazy("age band"),
}
KEPT_SECONDS = 300  # a summary of the same judgements

# learning rates that usually work, by method and for writers below TINY parameters (the demo's takes 8e-5)
USUAL = {"full": (1e-6, 5e-5), "lora": (5e-6, 5e-4)}
USUAL_TINY = {"full": (2e-5, 3e-4), "lora": (1e-4, 3e-3)}
TINY = 100e6


@dataclass(frozen=True)
class Covered:
    """One theme, story type, language or age band: its prompts with pairs, of all its training prompts."""

    dimension: str
    name: str
    prompts: int
    of: int
    pairs: int
    thin: bool

    @property
    def label(self) -> str:
        return str(Language(self.name).label) if self.dimension == "language" else self.name


@dataclass(frozen=True)
class Summary:
    """Counts of a selection's pairs. simulated: share of the votes that simulated experts gave.

    imported: pairs from elsewhere that come on top, by origin; all the other counts are of experts' pairs.
    parts: what the trainer reads by each criterion, and under "" of all. smoothing: the share of pairs that is expected
    to be the wrong way round, as the experts' agreement on these comparisons has it; None if it cannot be told.
    """

    pairs: int
    comparisons: int
    prompts: int
    experts: int
    simulated: float
    edited: int
    by_policy: dict[str, int]
    by_criterion: dict[str, int]
    coverage: list[Covered]
    parts: dict[str, Work]
    smoothing: float | None
    imported: dict[str, int]

    @property
    def imported_count(self) -> int:
        return sum(self.imported.values())

    @property
    def all_pairs(self) -> int:
        return self.pairs + self.imported_count

    @property
    def imported_share(self) -> float:
        """Of all pairs, whatever they weigh."""
        return self.imported_count / self.all_pairs if self.all_pairs else 0.0

    @property
    def thin(self) -> list[Covered]:
        return [one for one in self.coverage if one.thin]

    @property
    def dimensions(self) -> list[tuple[Any, list[Covered]]]:
        return [(label, [one for one in self.coverage if one.dimension == name]) for name, label in DIMENSIONS.items()]


@dataclass(frozen=True)
class Example:
    """A pair as it would be trained on."""

    pair: PreferencePair

    @property
    def prompt(self) -> Prompt:
        return story_of(self.pair.chosen).prompt

    @property
    def edited(self) -> bool:
        return isinstance(self.pair.chosen, Edited)


@dataclass(frozen=True)
class DryRun:
    """What launching would do, and what stands in its way though it could be launched."""

    launch: Launch
    summary: Summary
    estimate: Estimate | None
    examples: list[Example]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As the command and the API say it."""
        launch, summary, estimate = self.launch, self.summary, self.estimate
        return {
            "policy": launch.policy.name,
            "selection": launch.selection.as_json(),
            "include_simulated": launch.selection.simulated,
            "settings": {name: value for name, value in launch.settings.items() if name != "include_simulated"},
            "pairs": summary.pairs,
            "comparisons": summary.comparisons,
            "prompts": summary.prompts,
            "experts": summary.experts,
            "simulated_share": summary.simulated,
            "suggested_label_smoothing": summary.smoothing,
            "by_policy": summary.by_policy,
            "by_criterion": summary.by_criterion,
            "imported": summary.imported,
            "imported_share": summary.imported_share,
            "thin": [{"what": one.dimension, "name": one.name, "prompts": one.prompts} for one in summary.thin],
            "seconds": estimate and estimate.seconds,
            "steps": estimate and estimate.steps,
            "memory_bytes": estimate and estimate.memory,
            "disk_bytes": estimate and estimate.disk,
            "examples": [
                {"prompt": one.prompt.text, "chosen": one.pair.chosen.text, "rejected": one.pair.rejected.text}
                for one in self.examples
            ],
            "problems": self.problems,
        }


def dry_run(launch: Launch) -> DryRun:
    """Look at all that a round needs. Freezes, creates and writes nothing."""
    policy = launch.policy
    summary = summarize(launch.selection, policy, launch.pairs)
    found, problem = estimated(policy, launch.settings, launch.selection, summary)
    problems = [problem] if problem else []
    if launch.settings.get("reference") == "base":
        try:
            check_model_directory(policy.lineage()[-1].directory)
        except EngineError as error:
            problems.append(str(error))
    if found and found.short_of:
        problems.append(short_of(found))
    if not Prompt.objects.filter(split=Split.EVALUATION).exists():
        problems.append(_("There are no evaluation prompts: the new policy could not be compared with the old one."))
    return DryRun(launch, summary, found, examples(launch.pairs), problems)


def short_of(found: Estimate) -> str:
    if found.short_of == "memory":
        return _("This machine has less memory free than the round wants: try LoRA, or a smaller model.")
    return _("This machine has less disk free than the round wants: free some, or try LoRA.")


def estimated(
    policy: Policy, settings: Mapping[str, Any], selection: Selection, summary: Summary
) -> tuple[Estimate | None, str]:
    """The estimate, or why there is none."""
    criteria = selection.criteria if settings.get("stages") else ("",)
    parts = [summary.parts[criterion] for criterion in criteria if criterion in summary.parts]
    try:
        return estimate(policy, dict(settings), parts), ""
    except EngineError as error:
        return None, str(error)
    except (OSError, ValueError, KeyError) as error:
        return None, _("The model in %(path)s cannot be read (%(error)s).") % {"path": policy.directory, "error": error}


def summary_of(selection: Selection, policy: Policy) -> Summary:
    """As it is now; while no judgement changes it is counted once."""
    said = Judgement.objects.aggregate(n=Count("pk"), last=Max("changed_at"))
    withdrawn = Story.objects.exclude(withdrawn_at=None).count()
    state = [policy.pk, selection.as_json(), selection.simulated, said["n"], str(said["last"]), withdrawn]
    state.append(Prompt.objects.count())
    key = "selection-" + hashlib.sha256(json.dumps(state).encode()).hexdigest()
    found: Summary | None = cache.get(key)
    if found is None:
        found = summarize(selection, policy, selections.pairs(selection, policy))
        cache.set(key, found, KEPT_SECONDS)
    return found


def summarize(selection: Selection, policy: Policy, pairs: list[PreferencePair]) -> Summary:
    """The counts of `pairs`, which are the selection's."""
    stories = [story_of(pair.chosen) for pair in pairs]
    votes = sum(pair.judgements_for + pair.judgements_against for pair in pairs)
    comparisons = {(story.prompt_id, story.policy_id) for story in stories}
    judged = selections.judgements(selection, policy)
    of_pairs = judged.filter(assignment__comparison__prompt__in=among({story.prompt_id for story in stories}))
    return Summary(
        pairs=len(pairs),
        comparisons=len(comparisons),
        prompts=len({story.prompt_id for story in stories}),
        experts=of_pairs.order_by().values("assignment__expert").distinct().count(),
        simulated=sum(pair.simulated_judgements for pair in pairs) / votes if votes else 0.0,
        edited=sum(isinstance(pair.chosen, Edited) for pair in pairs),
        by_policy=dict(Counter(story.policy.name for story in stories).most_common()),
        by_criterion=dict(Counter(pair.criterion for pair in pairs)),
        coverage=_coverage(selection, pairs),
        parts=_parts(selection, policy, pairs),
        smoothing=_smoothing(pairs, judged, simulated=selection.simulated),
        imported=imported.counts(selection),
    )


def _parts(selection: Selection, policy: Policy, pairs: list[PreferencePair]) -> dict[str, Work]:
    sizes = sizes_of(pairs)
    more = work_of_imported(selection, policy, pairs, sizes)
    parts = {"": work_of(pairs, sizes) + more}
    if len(selection.criteria) == 1:
        return {**parts, selection.criteria[0]: parts[""]}
    parts |= {name: work_of([p for p in pairs if p.criterion == name], sizes) for name in selection.criteria}
    if OVERALL in parts:
        parts[OVERALL] += more
    return parts


def _smoothing(pairs: list[PreferencePair], judged: JudgementQuerySet, *, simulated: bool) -> float | None:
    """By what people say of each other; where they are too few and simulated experts count, by what those say.

    judged: the selection's judgements, those that make no pair too: experts disagreed there.
    """
    comparisons = list(judged.order_by().values_list("assignment__comparison", flat=True).distinct())
    for who in (False, True) if simulated else (False,):
        if found := agreement(comparisons, simulated=who).flipped:
            return flipped_pairs(pairs, found.value)
    return None


def _coverage(selection: Selection, pairs: list[PreferencePair]) -> list[Covered]:
    prompts = Prompt.objects.filter(split=Split.TRAIN)
    if selection.languages:
        prompts = prompts.filter(language__in=selection.languages)
    if selection.themes:
        prompts = prompts.filter(theme__in=selection.themes)
    everything = list(prompts.values("pk", *DIMENSIONS))
    by_prompt = Counter(story_of(pair.chosen).prompt_id for pair in pairs)
    return [one for name in DIMENSIONS for one in _of_dimension(name, everything, by_prompt)]


def _of_dimension(dimension: str, prompts: list[dict[str, Any]], pairs: Mapping[int, int]) -> Iterable[Covered]:
    there = Counter(prompt[dimension] for prompt in prompts)
    judged = Counter(prompt[dimension] for prompt in prompts if pairs.get(prompt["pk"]))
    of_pairs: Counter[str] = Counter()
    for prompt in prompts:
        of_pairs[prompt[dimension]] += pairs.get(prompt["pk"], 0)
    total = judged.total()
    for name in sorted(there):
        expected = there[name] / len(prompts)
        thin = judged[name] < min(MIN_PROMPTS, there[name]) or judged[name] < LOW_SHARE * expected * total
        yield Covered(dimension, name, judged[name], there[name], of_pairs[name], thin)


def examples(pairs: list[PreferencePair], count: int = 3) -> list[Example]:
    """Pairs from the beginning, the middle and the end of the fixed order."""
    if len(pairs) > count:
        pairs = [pairs[place * (len(pairs) - 1) // (count - 1)] for place in range(count)]
    return [Example(pair) for pair in with_texts(pairs)]


def remarks(settings: Mapping[str, Any], parameters: int | None, pairs: int | None = None) -> dict[str, str]:
    """Settings that are allowed and yet unusual, by name, each with why. parameters: the model's, if it is known."""
    found = {}
    method, rate, loss = settings["method"], settings["learning_rate"], settings["loss"]
    low, high = (USUAL_TINY if parameters and parameters < TINY else USUAL)[method]
    if not low <= rate <= high:
        found["learning_rate"] = _("Unusual: for this model and method %(low)s to %(high)s is usual.") % {
            "low": plain(low), "high": plain(high)
        }  # fmt: skip
    if loss == "sigmoid_norm" and settings["beta"] < 1:
        found["beta"] = _("Unusual: this loss averages over the length and usually takes a beta of 1 to 10.")
    if loss == "robust" and not settings["label_smoothing"]:
        found["label_smoothing"] = _("With 0 this loss is plain DPO: give the share that you expect to be wrong.")
    if pairs and settings["batch_pairs"] > pairs:
        found["batch_pairs"] = _("More than there are pairs: each epoch is one single step.")
    if not settings["eval_share"]:
        found["eval_share"] = _("Nothing is held out: two alarms cannot be measured, and block promotion by itself.")
    return found
