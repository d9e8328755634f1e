"""The settings of one run."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

LOSSES = ("sigmoid", "robust", "ipo", "hinge", "sigmoid_norm", "apo_zero", "apo_down")
METHODS = ("full", "lora")
OUT_OF_MEMORY = 86  # exit status


class BadSettings(ValueError):
    """A setting is outside its range; the message names it and the range."""


def option(default: Any, meaning: str, *, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A field with what its --help says, its range, or its choices."""
    return field(default=default, metadata={"help": meaning, "low": low, "high": high, **more})


@dataclass(frozen=True)
class DPOSettings:
    """All that decides the result, besides model and data."""

    beta: float = option(0.2, "strength of the pull to the reference (tau in IPO)", low=0.01, high=10.0)
    loss: str = option("sigmoid", "see LOSSES below", choices=LOSSES)
    label_smoothing: float = option(
        0.0, "share of pairs taken to be judged the wrong way round (sigmoid: cDPO; robust)", low=0.0, high=0.49
    )
    ld_alpha: float = option(
        1.0, "LD-DPO: what counts of a story beyond its sister's length; 1 is off", low=0.0, high=1.0
    )
    sft_weight: float = option(0.0, "weight of the SFT term on chosen stories (RPO)", low=0.0, high=10.0)
    contrastive_weight: float = option(
        0.0, "weight of chosen stories against those of the batch's other prompts", low=0.0, high=10.0
    )
    objectives: str = option(
        "", 'train on these criteria, each with its weight: "structure=1,creativity=0.5"; empty: all pairs alike'
    )
    margin_scale: float = option(0.0, "reward margin asked of a pair, times its margin in the data", low=0.0, high=10.0)
    weighting: str = option(
        "pairs", "what weighs alike: pairs, or prompts however many pairs they have", choices=("pairs", "prompts")
    )
    batching: str = option(
        "comparison", "take a prompt's pairs together, or each pair by itself", choices=("comparison", "pair")
    )
    learning_rate: float = option(5e-5, "peak of the learning rate", low=1e-7, high=1e-1)
    schedule: str = option("cosine", "of the learning rate after warm-up", choices=("cosine", "linear", "constant"))
    warmup: float = option(0.1, "share of the steps in which the learning rate rises", low=0.0, high=0.9)
    epochs: int = option(3, "times that each pair is trained on", low=1, high=20)
    batch_pairs: int = option(16, "pairs an optimizer step (a prompt's stay together)", low=1, high=4096)
    shuffle: bool = option(True, "a new order each epoch, drawn with the seed; else the file's")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm; 0 is off", low=0.0, high=1000.0)
    weight_decay: float = option(0.0, "of AdamW", low=0.0, high=1.0)
    method: str = option("full", "train all weights, or an adapter", choices=METHODS)
    lora_rank: int = option(16, "rank of a new adapter", low=1, high=512)
    lora_alpha: int = option(0, "scale of a new adapter is alpha/rank; 0: twice the rank", low=0, high=2048)
    precision: str = option(
        "auto",
        "bf16: products in bfloat16, weights and sums in fp32; auto: bf16 on a GPU",
        choices=("auto", "fp32", "bf16"),
    )
    gradient_checkpointing: bool = option(False, "compute activations again instead of keeping them")
    micro_batch_tokens: int = option(0, "tokens in the model at once; 0: chosen for the device", low=0, high=1 << 24)
    max_tokens: int = option(2048, "pairs longer than this, prompt included, are left out", low=8, high=1 << 20)
    seed: int = option(42, "of the order and of a new adapter", low=0, high=1 << 31)
    checkpoint_steps: int = option(25, "steps between checkpoints", low=1, high=100_000)
    eval_share: float = option(0.0, "share of the prompts held out", low=0.0, high=0.5)
    eval_steps: int = option(0, "steps between evaluations on them; 0: once an epoch", low=0, high=100_000)
    patience: int = option(
        0, "stop after so many evaluations without a lower loss, and keep the best weights; 0 is off", low=0, high=1000
    )
    max_kl: float = option(0.0, "stop when kl, nats a story, exceeds it; 0 is off", low=0.0, high=1e6)
    max_logps_drop: float = option(
        0.0, "stop when chosen stories have lost so many nats a token; 0 is off", low=0.0, high=100.0
    )

    def check(self) -> Self:
        """Raise BadSettings for the first value out of its range; return self."""
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name), type(setting.default), setting.metadata)
        self.objective_weights()
        for name in ("eval_steps", "patience"):
            if getattr(self, name) and not self.eval_share:
                raise BadSettings(f"{name} is {getattr(self, name)}, but no prompts are held out: give eval_share too")
        if self.weighting == "prompts" and self.batching == "pair":
            raise BadSettings("weighting is prompts, but batching is pair: a prompt's pairs must be taken together")
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise BadSettings(f"label_smoothing has no meaning for the loss {self.loss}: use sigmoid or robust")
        if self.margin_scale and self.loss.startswith("apo"):
            raise BadSettings(f"margin_scale has no meaning for the loss {self.loss}: it has no margin")
        return self

    def objective_weights(self) -> dict[str, float]:
        """objectives, read: criterion -> weight; empty if all pairs are trained alike."""
        found: dict[str, float] = {}
        for part in filter(None, (p.strip() for p in self.objectives.split(","))):
            name, _, weight = (p.strip() for p in part.partition("="))
            if name in found:
                raise BadSettings(f"objectives is {self.objectives!r}: {name} is there twice")
            try:
                found[name] = float(weight or 1)
            except ValueError:
                found[name] = -1.0
            if not (name and 0 < found[name] < float("inf")):
                raise BadSettings(f'objectives is {self.objectives!r}: give "criterion=weight,...", weights above 0')
        return found

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def of(cls, values: Any, where: str) -> Self:
        """The settings in a dict; BadSettings for an unknown name or a value that cannot be meant."""
        if not isinstance(values, dict):
            raise BadSettings(f"{where} holds no settings: give an object of names and values")
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise BadSettings(f"{where}: unknown settings {', '.join(sorted(unknown))}")
        cls(**values).check()
        floats = {f.name for f in fields(cls) if type(f.default) is float}
        given: dict[str, Any] = {name: float(value) if name in floats else value for name, value in values.items()}
        return cls(**given)


def _check(name: str, value: Any, kind: type, limits: Any) -> None:
    wanted = {bool: "true or false", str: "text"}.get(kind, "a number")
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise BadSettings(f"{name} is {value!r}: give {wanted}")
    if limits["low"] is not None and not limits["low"] <= value <= limits["high"]:
        raise BadSettings(f"{name} is {value}: give {limits['low']} to {limits['high']}")
    if "choices" in limits and value not in limits["choices"]:
        raise BadSettings(f"{name} is {value!r}: give one of {', '.join(limits['choices'])}")
