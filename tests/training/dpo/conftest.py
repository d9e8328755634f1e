"""A trained adapter, made once."""

from pathlib import Path

import pytest

from tests.training.dpo.helpers import Run, pair, run


@pytest.fixture(scope="session")
def lora_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that trained a LoRA adapter well away from where it began."""
    out = tmp_path_factory.mktemp("lora") / "out"
    rows = [pair(i) for i in range(6)]
    return run(tiny_model, out, rows, method="lora", lora_rank=4, learning_rate=1e-2, epochs=4, batch_pairs=2)
