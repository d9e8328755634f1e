"""Whether interrupted training came to what an unbroken run would have made, and a table of the kills."""

import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from config.chaos.killer import Kill
from config.chaos.plan import TARGETS, Phase, Target
from config.trials.findings import ENDS
from generation.engines.values import weights_hash
from training.models import Round
from training.run import trainer_command


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
