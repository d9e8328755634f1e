"""The model that is trained: loaded, made ready for its device and method, and saved."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from generation.engines.loading import load_model
from training.dpo import checkpoint
from training.dpo.distributed import unwrapped
from training.dpo.linear import use_onednn
from training.dpo.settings import DPOSettings


def precision_of(settings: DPOSettings, device: torch.device) -> str:
    """fp32 or bf16: on a CPU bf16 only if it is asked for, since most compute it in software."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def load_policy(model: Path, adapter: Path | None, settings: DPOSettings, device: torch.device) -> Any:
    """The policy as it is before the first step: full weights, or a PEFT model with one adapter to train.

    With "lora" an adapter that is given is trained further; with "full" it is merged. Raises EngineError.
    """
    if settings.method == "full":
        found = load_model(model, adapter, exact=True).to(device)
    else:
        found = _with_adapter(model, adapter, settings, device)
    without_dropout(found)
    if settings.gradient_checkpointing:
        inner = unwrapped(found)
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for module in found.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = True  # transformers asks for it; train() would wake noise up everywhere
    if device.type == "cpu":
        use_onednn(found)
    return found


def _with_adapter(model: Path, adapter: Path | None, settings: DPOSettings, device: torch.device) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    from generation.engines.loading import said_in_words

    base = load_model(model, exact=True)
    if precision_of(settings, device) == "bf16":
        for parameter in base.parameters():  # not base.to(): the angles of positions must stay exact
            parameter.data = parameter.data.to(torch.bfloat16)
    base = base.to(device)  # rounded before: the device need never hold them in four bytes
    if adapter:
        with said_in_words(adapter, "adapter"):
            found = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    else:
        found = get_peft_model(
            base,
            LoraConfig(
                r=settings.lora_rank,
                lora_alpha=settings.lora_alpha or 2 * settings.lora_rank,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
    for parameter in found.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # what is trained is kept in full precision
    return found.eval()


def without_dropout(model: Any) -> None:
    """Policy and reference must agree before the first step, where gradient checkpointing wants train mode
    too. Some models ask their config as they run: save_policy() writes it as it was."""
    inner = unwrapped(model)
    inner.config_as_loaded = copy.deepcopy(inner.config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        _silence(module)
        _silence(getattr(module, "config", None))


def _silence(thing: Any) -> None:
    for name, value in list(vars(thing).items()) if hasattr(thing, "__dict__") else ():
        if isinstance(value, float) and ("dropout" in name or "layerdrop" in name):
            setattr(thing, name, 0.0)


def save_policy(model: Any, tokenizer: Any, directory: Path) -> Path:
    """Full weights, or a PEFT adapter, as safetensors with the tokenizer; whole or not at all."""
    inner = unwrapped(model)
    with checkpoint.replacing(directory) as temporary:
        silent, inner.config = inner.config, inner.config_as_loaded
        model.save_pretrained(temporary, safe_serialization=True)
        inner.config = silent
        tokenizer.save_pretrained(temporary)
    return directory
