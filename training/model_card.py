"""The model card of a policy: a README.md as the Hugging Face Hub reads it, from what the database knows.

In English, whoever reads: it goes along with the weights. What is not known is said to be so.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from django.utils import timezone, translation

from annotate.imports import OF_POLICY, origin_of
from annotate.models import Origin
from annotate.winrates import WinRate, win_rate
from generation.engines.values import EngineError
from generation.licenses import stated_license
from generation.models import Policy
from generation.stores import single
from generation.summaries import MEASURES, summarise
from training.dashboard.measured import measure_text
from training.models import Round
from training.run import TRAINER_SETTINGS
from training.selection import Selection

FIGURES = ("loss", "rewards_accuracies", "rewards_margins", "logps_change", "kl")
LIMITS = """\
It is meant for drafts of short stories that an adult reads before a child does, and for research on learning from
preferences. It is not meant for children to use alone, for advice, or for facts.

- It can write what is wrong, sad, frightening or unsuitable, in spite of its training: nothing filters it.
- It learned the taste of the experts who judged, on the prompts that they were given. Other readers, themes, ages and
  languages were not asked.
- Whatever the base model learned before, with its errors and prejudices, is still in it.
- The automatic measures below are rules that look for surface marks ("Once upon a time"), no readers: they compare
  policies with each other. A story can have a structure that they do not see, and the marks without one.
- Win rates are of blind comparisons on held-out prompts; an interval that reaches 50 % decides nothing."""


def model_card(policy: Policy, *, adapter: bool = False) -> str:
    """The card of the full weights, or of the adapter alone."""
    with translation.override("en"):
        made_by = Round.objects.filter(result=policy).select_related("policy", "result").first()
        parts = [_front_matter(policy, adapter=adapter), f"# {policy.name}", _says(policy, made_by, adapter=adapter)]
        parts += ["## How to load it", _usage(policy, adapter=adapter), "## Intended use and limits", LIMITS]
        parts += ["## Data", _data(policy)]
        if made_by:
            parts += ["## Training", _training(made_by)]
        parts += ["## Evaluation", _evaluation(policy, made_by), "## Lineage", _lineage(policy)]
        return "\n\n".join(parts) + "\n"


def license_of(policy: Policy) -> str:
    """Of the base that the policy began with: as an admin has entered it, else as its folder states it, else ""."""
    base = policy.lineage()[-1]
    return base.license or stated_license(base.directory)


# -- what stands at its head


def _front_matter(policy: Policy, *, adapter: bool) -> str:
    base = policy.lineage()[-1]
    languages = sorted(set(policy.stories.order_by().values_list("prompt__language", flat=True)))
    relation = "adapter" if adapter else "finetune"
    found: list[tuple[str, str | list[str]]] = [
        ("license", license_of(policy)),
        ("base_model", base.hub_name if base != policy else ""),
        ("base_model_relation", relation if base.hub_name and base != policy else ""),
        ("language", languages),
        ("library_name", "peft" if adapter else "transformers"),
        ("pipeline_tag", "text-generation"),
        (
            "tags",
            ["storyloop", "children-stories", *(["dpo"] if policy.parent else []), *(["lora"] if adapter else [])],
        ),
    ]
    # JSON's strings are YAML's, too
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found if value]
    return "\n".join(["---", *lines, "---"])


def _says(policy: Policy, made_by: Round | None, *, adapter: bool) -> str:
    what = "A LoRA adapter for a language model" if adapter else "A language model"
    if made_by is None:
        said = f"{what} that writes short stories for children: the base of a Storyloop installation, untrained here."
    else:
        said = (
            f"{what} that writes short stories for children. Round {made_by.number} of a Storyloop installation made "
            f"it from {made_by.policy.name} by DPO, on preferences between stories."
        )
    license = license_of(policy)
    if not license:
        said += (
            "\n\n**The license of the base model is not known here.** Find it out before you pass these weights on: "
            "what follows from the base is bound by it."
        )
    if policy.weights_deleted_at:
        said += f"\n\nIts weights were deleted on {policy.weights_deleted_at:%Y-%m-%d}; this record was kept."
    return said


def _usage(policy: Policy, *, adapter: bool) -> str:
    if not adapter:
        return (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{policy.name}")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{policy.name}")\n```\n\n'
            f"With vLLM: `vllm serve {policy.name}`."
        )
    base = policy.parent.name if policy.parent else "BASE"
    return (
        f"The adapter stands on the weights of **{base}**, with which its round began, and on no others.\n\n"
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base}")\n'
        f'model = PeftModel.from_pretrained(base, "{policy.name}-adapter")\n```\n\n'
        f"With vLLM: `vllm serve {base} --enable-lora --lora-modules {policy.name}={policy.name}-adapter`."
    )


# -- what it was made of


def _data(policy: Policy) -> str:
    rounds = Round.objects.filter(result__in=policy.lineage()).order_by("number")
    if not rounds:
        return "No preferences of this installation went into it."
    rows = [(f"round {one.number}", one.pair_count or "?", *_by_whom(one), f"`{one.export_sha256}`") for one in rounds]
    head = ("", "preference pairs", "by people alone", "by simulated experts alone", "by both", "SHA-256 of the pairs")
    own = (
        "Experts ranked several stories of one prompt, without names and in an order of their own. Of each two stories "
        "the majority's preference is a pair, frozen in a file before the training began. Simulated experts follow "
        f"stated rules, and are no people.\n\n{_table(head, rows)}"
    )
    return "\n\n".join([own, *_imported(rounds)])


def _imported(rounds: Iterable[Round]) -> Iterable[str]:
    """What came from elsewhere, if anything did."""
    rows: list[Sequence[object]] = []
    for one in rounds:
        selection = Selection.of(one.selection)
        found = _known_voters(one)
        for origin in Origin.objects.filter(name__in=selection.origins).order_by("pk"):
            count = found[OF_POLICY + origin.name] if found is not None else "?"
            what = (origin.name, origin.licence, origin.language, count, f"{selection.imported_weight:g}")
            rows.append((f"round {one.number}", *what, f"`{origin.file_sha256}`"))
    if not rows:
        return
    yield (
        "Among them are pairs of nobody who judged here, imported from elsewhere. What follows from them is bound by "
        "their licenses, too."
    )
    yield _table(("", "origin", "license", "language", "pairs", "weight", "SHA-256 of the file"), rows)


def _by_whom(one: Round) -> Sequence[int | str]:
    found = _known_voters(one)
    return [found[name] for name in ("people", "simulated", "both")] if found is not None else ["?", "?", "?"]


def _known_voters(one: Round) -> Counter[str] | None:
    """None if the pairs cannot be read now."""
    try:
        return _voters(one.export_path, one.export_sha256)
    except (EngineError, OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _voters(path: str, sha256: str) -> Counter[str]:
    """How many frozen pairs rest on whom, imported ones under OF_POLICY and their origin. A frozen file never changes.

    EngineError, OSError, ValueError if it cannot be read now: that is not kept.
    """
    found: Counter[str] = Counter()
    with single.get(Path(path)).open() as file:
        for line in file:
            pair = json.loads(line)
            if origin := origin_of(pair):
                found[OF_POLICY + origin] += 1
                continue
            simulated = pair.get("simulated_judgements", 0)
            votes = pair.get("judgements_for", 0) + pair.get("judgements_against", 0)
            found["people" if not simulated else "simulated" if simulated >= votes else "both"] += 1
    return found


def _training(made_by: Round) -> str:
    settings = [(name, f"`{getattr(made_by, name)}`") for name in TRAINER_SETTINGS if hasattr(made_by, name)]
    parts = [_table(("setting", "value"), settings)]
    last, held_out = made_by.metrics.trained().last(), made_by.metrics.held_out().last()
    if last:
        rows = []
        for name in FIGURES:
            values = [getattr(one, name) if one else None for one in (last, held_out)]
            rows.append((name.replace("rewards_", "rewards/").replace("logps_", "logps/"), *map(_number, values)))
        held = f"held-out prompts after step {held_out.step}" if held_out else "held-out prompts"
        parts.append(_table(("figure", f"training pairs, step {last.step}", held), rows))
        parts.append("kl: nats a story; logps/change: of chosen stories against the reference, nats a token.")
    return "\n\n".join(parts)


def _evaluation(policy: Policy, made_by: Round | None) -> str:
    parts = [f"As of {timezone.now():%Y-%m-%d}."]
    if made_by:
        people = not made_by.include_simulated
        rows = [(f"{one.name}", *_rate(win_rate(policy, one, people=people))) for one in made_by.baselines()]
        head = ("preferred to", "win rate", "95 % interval", "n", "of it simulated")
        parts += ["Share of blind judgements that prefer its stories, ties counting half.", _table(head, rows)]
    parts.append(_measures(policy, made_by))
    return "\n\n".join(parts)


def _rate(found: WinRate) -> Sequence[str | int]:
    if not found.enough:
        return ["not enough judgements", "–", found.n, found.simulated]
    return [f"{found.percent} %", f"{found.percent_low} to {found.percent_high} %", found.n, found.simulated]


def _measures(policy: Policy, made_by: Round | None) -> str:
    line = list(dict.fromkeys([*(reversed(made_by.baselines()) if made_by else ()), policy]))
    summaries = [(one, found) for one in line if (found := summarise(one))]
    if not summaries or summaries[-1][0] != policy:
        return "It has written no stories here yet."
    rows = []
    for name, measure in MEASURES.items():
        values = [getattr(found, name) for _, found in summaries]
        if any(value is not None for value in values):
            rows.append((str(measure.label), *(measure_text(name, value) for value in values)))
    counts = ", ".join(f"{one.name}: {found.stories}" for one, found in summaries)
    head = ("measured by rules", *(one.name for one, _ in summaries))
    return f"{_table(head, rows)}\n\nFinished stories read: {counts}."


def _lineage(policy: Policy) -> str:
    """From the base to this policy."""
    numbers = dict(Round.objects.exclude(result=None).values_list("result", "number"))
    lines = []
    for place, one in enumerate(reversed(policy.lineage()), start=1):
        made = f"made by round {numbers[one.pk]}" if one.pk in numbers else one.hub_name or "the base"
        lines.append(f"{place}. **{one.name}**, {made}; SHA-256 of its weights `{one.weights_hash}`")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
