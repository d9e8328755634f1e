"""LoRA adapters on a tiny model, made by PEFT itself, and what a model with them computes."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from generation.engines.loading import load_model


def make_adapter(model: Path, directory: Path, *, seed: int = 1, half: bool = False, **config: object) -> Path:
    """A random adapter that changes the model in `model`, saved to `directory`."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **config}
    adapted = get_peft_model(load_model(model, exact=True), LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
            if half and "lora_" in name:
                parameter.data = parameter.data.bfloat16()
    adapted.save_pretrained(directory)
    return directory


def merged(model: Path, adapter: Path, directory: Path) -> Path:
    """Full weights of the model with the adapter, in `directory`."""
    load_model(model, adapter, exact=True).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((model / name).read_bytes())
    return directory


@torch.no_grad()
def logits(model: Path, adapter: Path | None = None) -> torch.Tensor:
    """Of the same few tokens, with the adapter beside the weights, as a server has it."""
    found = load_model(model, exact=True)
    if adapter:
        found = PeftModel.from_pretrained(found, adapter).eval()
    return found(torch.arange(2, 40)[None]).logits
