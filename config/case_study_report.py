"""What the case study has shown, beside the seed chapter's figures, and what it was to show and did not.

All measures are of held-out prompts: no story for them was judged for training.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from config import loop_report
from config.case_study import CHAPTER
from generation.models import Policy, Prompt, Split
from generation.summaries import Change, change
from training.models import Round

MEASURES = (*loop_report.MEASURES, "broken", "grade", "words_per_sentence", "characters_per_sentence")
KEPT = 0.1  # after the last round repetition, diversity and length are within this share of the base's


def figures(base: Policy, rounds: list[Round], *, seed: int) -> dict[str, Any]:
    """loop_report.figures, its measures of held-out prompts alone, with what each round has changed in them."""
    found = loop_report.figures(base, rounds, seed=seed)
    held_out = frozenset(Prompt.objects.filter(split=Split.EVALUATION).values_list("pk", flat=True))
    found["base"] = _after(_changes(base, base, held_out))
    for row, shown in zip(found["rounds"], rounds, strict=True):
        assert shown.result is not None
        from_base = _changes(base, shown.result, held_out)
        row.update(_after(from_base))
        row["change_from_base"] = _intervals(from_base)
        row["change_from_previous"] = _intervals(_changes(shown.policy, shown.result, held_out))
    return found | {"held_out_prompts": len(held_out), "chapter": asdict(CHAPTER)}


def _changes(before: Policy, after: Policy, prompts: frozenset[int]) -> dict[str, Change | None]:
    return {name: change(before, after, name, prompts=prompts) for name in MEASURES}


def _after(changes: dict[str, Change | None]) -> dict[str, float | None]:
    return {name: found.after if found else None for name, found in changes.items()}


def _intervals(changes: dict[str, Change | None]) -> dict[str, dict[str, float] | None]:
    return {name: loop_report.as_interval(found) if found else None for name, found in changes.items()}


# --- for a person --------------------------------------------------------------------------------------------


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return f"{value:.1f}"


# measure, its name, how it is written, the chapter's figure before and after
ROWS: tuple[tuple[str, str, Callable[[float], str], str, str], ...] = (
    ("structure", "clear structure", _percent, f"{CHAPTER.structure[0]:.0%}", f"{CHAPTER.structure[1]:.0%}"),
    ("message", "educational message", _percent, f"{CHAPTER.message[0]:.0%}", f"{CHAPTER.message[1]:.0%}"),
    ("words_per_sentence", "words a sentence (English)", _number, "", "fewer"),
    ("characters_per_sentence", "characters a sentence (Chinese)", _number, "", "fewer"),
    ("hard_words", "hard words", _percent, "", "fewer"),
    ("grade", "school grade (English)", _number, "", "lower"),
    ("mean_words", "length in words", _number, "", ""),
    ("repetition", "repetition", _percent, "", ""),
    ("diversity", "diversity", _percent, "", ""),
    ("broken", "broken sentences", _percent, "", ""),
)


def table(found: dict[str, Any]) -> str:
    """The chapter's figures and ours side by side."""
    rounds = found["rounds"]
    lines = [["", "chapter:", "after", "here:", *("after" for _ in rounds)]]
    lines.append(["", "before", "DPO", "base", *(f"round {row['round']}" for row in rounds)])
    for name, label, written, before, after in ROWS:
        values = [row[name] for row in (found["base"], *rounds)]
        lines.append([label, before, after, *("" if value is None else written(value) for value in values)])
    lines += [
        ["preferred to the base", "", f"{CHAPTER.win_rate:.0%}", "", *_rates(rounds, "win_rate_base")],
        ["preferred to the one before", "", "", "", *_rates(rounds, "win_rate_previous")],
        ["n of each", "", "", "", *(str(row["win_rate_base"]["n"]) for row in rounds)],
        ["pairs", "", "about 500", "", *(str(row["pairs"]) for row in rounds)],
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = ["  ".join([c[0].ljust(widths[0]), *map(str.rjust, c[1:], widths[1:])]).rstrip() for c in lines]
    said = f"Measured on {found['held_out_prompts']} held-out prompts. All experts are simulated."
    return "\n".join(["", said, "", *aligned, ""])


def _rates(rounds: list[dict[str, Any]], name: str) -> list[str]:
    return [loop_report.rate_text(row[name]) for row in rounds]


# --- what was to be shown ------------------------------------------------------------------------------------


def faults(found: dict[str, Any]) -> list[str]:
    """What the case study was to show and did not, a line each."""
    rounds = found["rounds"]
    said = _first(found["base"], rounds[0])
    for before, row in zip(rounds, rounds[1:], strict=False):
        said += _loss(before, row)
    return said + _kept(found["base"], rounds[-1])


def _first(base: dict[str, Any], row: dict[str, Any]) -> list[str]:
    wanted = (
        ("clear structure", row["structure"], CHAPTER.structure[1]),
        ("educational message", row["message"], CHAPTER.message[1]),
        ("preferred to the base", row["win_rate_base"]["rate"] or 0.0, CHAPTER.win_rate),
    )
    said = [
        f"Round {row['round']}: {label} is {_percent(value)}, the chapter's {at_least:.0%}."
        for label, value, at_least in wanted
        if value < at_least
    ]
    for name, label in (
        ("words_per_sentence", "Its English sentences are"),
        ("characters_per_sentence", "Its Chinese sentences are"),
        ("hard_words", "Its words are"),
    ):
        if row[name] >= base[name]:
            worse = "harder" if name == "hard_words" else "longer"
            said.append(f"{label} no less {worse}: {base[name]:.4g} before, {row[name]:.4g} now.")
    return said


def _loss(before: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Losses from a round to the next that chance does not explain: the whole interval is below."""
    number, said = row["round"], []
    for name, label in (("structure", "clear structure"), ("message", "educational message")):
        if row["change_from_previous"][name]["high"] < 0:
            said.append(f"Round {number} loses {label}: {_percent(before[name])} before, {_percent(row[name])} now.")
    if (row["win_rate_previous"]["high"] or 0.0) < 0.5:
        rate = loop_report.rate_text(row["win_rate_previous"])
        said.append(f"Round {number} loses against round {before['round']}: {rate}.")
    if (row["win_rate_base"]["high"] or 0.0) < (before["win_rate_base"]["rate"] or 0.0):
        said.append(f"Round {number} is preferred to the base less often than round {before['round']} was.")
    return said


def _kept(base: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Repetition may fall and diversity may rise: only decay counts. Length may do neither."""
    low, high = 1 - KEPT, 1 + KEPT
    within = (
        ("diversity", "diversity", row["diversity"] >= low * base["diversity"]),
        ("length", "mean_words", low * base["mean_words"] <= row["mean_words"] <= high * base["mean_words"]),
        ("repetition", "repetition", row["repetition"] <= high * base["repetition"]),
    )
    return [
        f"After round {row['round']} {label} is not within {KEPT:.0%} of the base's: "
        f"{base[name]:.4g} before, {row[name]:.4g} now."
        for label, name, kept in within
        if not kept
    ]
