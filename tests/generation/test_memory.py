"""A writer that finds too little memory, for real: its address space has a limit."""

import os
import subprocess
import sys
from pathlib import Path

from tests.environment import ROOT
from tests.models import make_tiny_model

# the same model with wider layers, in a process that may take 64 MB more than its libraries have
LIMITED = """
import resource, sys
from pathlib import Path
from transformers import AutoConfig, AutoModelForCausalLM
from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import EngineError, Weights
directory = Path(sys.argv[1])
config = AutoConfig.from_pretrained(directory)
config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.head_dim = 512, 4096, 4, 256
AutoModelForCausalLM.from_config(config).save_pretrained(directory)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
try:
    TransformersEngine(Weights(directory))
except EngineError as error:
    print(error)
"""


def test_a_model_that_is_too_large_for_the_memory_is_told_with_what_to_do(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(model)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = "The machine's memory does not suffice for writing with transformers. Let nothing else use it"
    assert said in done.stdout, done.stderr
