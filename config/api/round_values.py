"""What the API says of a round, and what it takes to launch one."""

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema
from pydantic import StrictBool, StrictFloat, StrictInt

from annotate.pairs import OVERALL
from config.api.values import Figure, Number, Strict
from training.launching import MOST_STAGES, settings_of
from training.limits import HIGHEST_BETA, SETTING_LIMITS
from training.models import Round, RoundMetric
from training.selection import IMPORTED_WEIGHT, MIN_AGREEMENT, OLDER_WEIGHT, Selection

HIGHEST_SEED = 2**31 - 1
STATES = Literal[
    "queued", "freezing", "training", "writing", "judging", "promoted", "rejected", "failed", "cancelled"
]  # fmt: skip
BETA = (SETTING_LIMITS["beta"][0], max(HIGHEST_BETA.values()))


def _within(name: str, description: str) -> Any:
    low, high = BETA if name == "beta" else SETTING_LIMITS[name]
    return Field(None, ge=low, le=high, description=description)


class SelectionIn(Strict):
    """Which preference pairs; what is left out is as shipped."""

    rounds: Literal["this", "all", "mix"] | None = Field(
        None, description="stories of the policy in use, of all of its base model, or all with older ones less"
    )
    older_weight: StrictFloat | None = Field(
        None, ge=OLDER_WEIGHT[0], le=OLDER_WEIGHT[1], description="in a mix, for each round between"
    )
    languages: list[str] | None = Field(None, description="empty: all", examples=[["en"]], max_length=10)
    themes: list[str] | None = Field(None, description="of training prompts; empty: all", max_length=100)
    audiences: list[str] | None = Field(None, description="empty: all", examples=[["educator"]], max_length=10)
    min_agreement: StrictFloat | None = Field(
        None, ge=MIN_AGREEMENT[0], le=MIN_AGREEMENT[1], description="share of experts who must agree on a pair"
    )
    which: Literal["all", "adjacent", "extremes"] | None = Field(None, description="of the pairs of an order")
    origins: list[str] | None = Field(None, description="of imported pairs to train on, too", max_length=100)
    imported_weight: StrictFloat | None = Field(
        None, ge=IMPORTED_WEIGHT[0], le=IMPORTED_WEIGHT[1], description="of an imported pair; an expert's has 1"
    )


class Stage(Strict):
    criterion: str = Field(description="by what its pairs are judged", examples=[OVERALL], max_length=40)
    beta: StrictFloat = Field(ge=BETA[0], le=BETA[1], examples=[0.2])


class LaunchIn(Strict):
    """A round's settings. What is left out is as shipped, or as in from_round (docs/training.md says what each
    does)."""

    from_round: Number | None = Field(None, description="begin with that round's settings")
    include_simulated: StrictBool | None = Field(None, description="whether simulated experts count")
    method: Literal["full", "lora"] | None = Field(None, description="full weights, or LoRA")
    loss: Literal["sigmoid", "sigmoid_norm", "robust", "ipo", "hinge", "apo_zero", "apo_down"] | None = Field(
        None, description="sigmoid is DPO"
    )
    beta: StrictFloat | None = _within("beta", "how close to the reference; above 0.5 with sigmoid_norm only")
    learning_rate: StrictFloat | None = _within("learning_rate", "of AdamW")
    sft_weight: StrictFloat | None = _within("sft_weight", "of the SFT term; 0 is plain DPO")
    label_smoothing: StrictFloat | None = Field(
        None, ge=0, le=0.49, description="share of pairs judged the wrong way round; sigmoid and robust only"
    )
    eval_share: StrictFloat | None = Field(None, ge=0, le=0.5, description="share of prompts held out of training")
    epochs: StrictInt | None = _within("epochs", "times over the pairs")
    batch_pairs: StrictInt | None = _within("batch_pairs", "pairs in a step")
    seed: StrictInt | None = Field(None, ge=0, le=HIGHEST_SEED)
    reference: Literal["policy", "base"] | None = Field(None, description="what beta holds the new policy to")
    lora_rank: StrictInt | None = _within("lora_rank", "of the adapter")
    lora_alpha: StrictInt | None = _within("lora_alpha", "0: twice the rank")
    objectives: str | None = Field(
        None,
        max_length=200,
        description="criterion=weight,...; empty: the ranking",
        examples=["overall=1,structure=0.5"],
    )
    stages: list[Stage] | None = Field(
        None, max_length=MOST_STAGES, description="one criterion after the other, instead of objectives"
    )
    selection: SelectionIn | None = None


class SelectionOut(Schema):
    rounds: str
    older_weight: float
    languages: list[str]
    themes: list[str]
    audiences: list[str]
    criteria: list[str]
    min_agreement: float
    which: str
    origins: list[str] = []
    imported_weight: float = 1.0


class Settings(Schema):
    """Of a round, as LaunchIn takes them."""

    include_simulated: bool
    method: str
    loss: str
    beta: float
    learning_rate: float
    sft_weight: float
    label_smoothing: float
    eval_share: float
    epochs: int
    batch_pairs: int
    seed: int
    reference: str
    lora_rank: int
    lora_alpha: int
    objectives: str
    stages: list[dict[str, Any]]
    selection: SelectionOut


class RoundOut(Schema):
    number: int = Field(examples=[3])
    state: STATES = Field(description="queued to writing: at work; judging: waits for judgements and a decision")
    policy: str = Field(description="that it starts from", examples=["round-2"])
    result: str | None = Field(None, description="the policy that it made", examples=["round-3"])
    done: int = Field(description="of `total`: steps while training, stories while writing")
    total: int
    message: str = Field(description="what went wrong and what to do, or a note; empty: nothing to say")
    pair_count: int | None = Field(None, description="pairs in its frozen export")
    export_sha256: str | None = Field(None, description="of the frozen export")
    launched_by: str | None = Field(None, description="null: a schedule or a command")
    created_at: datetime
    state_since: datetime
    ended_at: datetime | None = None
    settings: Settings


class MetricsOut(Schema):
    """One optimizer step, or the held-out pairs after it, under TRL's names."""

    step: int
    epoch: float
    loss: Figure = None
    rewards_chosen: Figure = None
    rewards_rejected: Figure = None
    rewards_margins: Figure = None
    rewards_accuracies: Figure = Field(None, description="share of pairs, 0-1")
    kl: Figure = Field(None, description="distance from the reference, nats a story")
    logps_change: Figure = Field(None, description="of the chosen stories against the reference, nats a token")
    pairs_per_second: Figure = None
    tokens_per_second: Figure = None
    memory_resident: int | None = Field(None, description="peak, bytes")
    memory_cuda: int | None = Field(None, description="peak on the GPU, bytes")


class AlarmOut(Schema):
    kind: str = Field(description="what is beyond its limit", examples=["kl_token"])
    value: Figure = None
    limit: Figure = None
    baseline: Figure = Field(None, description="of the base model, where the figure is a change against it")


class RoundDetail(RoundOut):
    """A round with its last figures and its alarms."""

    trained: MetricsOut | None = Field(None, description="the last step")
    held_out: MetricsOut | None = Field(None, description="what is held out, the last time it was measured")
    alarms: list[AlarmOut]


class Preview(Schema):
    """What launching would do (dry run). Nothing was frozen, and no round was made."""

    policy: str = Field(description="that the round would start from")
    settings: dict[str, Any] = Field(description="those that would be used, without the selection")
    selection: SelectionOut
    include_simulated: bool
    pairs: int
    comparisons: int
    prompts: int
    experts: int
    simulated_share: float = Field(description="share of the votes that simulated experts gave, 0-1")
    suggested_label_smoothing: Figure = Field(None, description="as the experts' agreement suggests")
    by_policy: dict[str, int]
    by_criterion: dict[str, int]
    imported: dict[str, int] = Field(description="pairs from elsewhere that come on top, by origin")
    imported_share: float = Field(description="of all pairs, 0-1")
    thin: list[dict[str, Any]] = Field(description="languages, themes, story types and age bands hardly covered")
    seconds: Figure = Field(None, description="about how long training takes; null: it cannot be told")
    steps: int | None = None
    memory_bytes: Figure = None
    disk_bytes: Figure = None
    examples: list[dict[str, Any]]
    problems: list[str] = Field(description="what stands in the way of launching; empty: nothing")


def round_out(found: Round) -> RoundOut:
    return RoundOut(**_said(found))


def round_detail(found: Round) -> RoundDetail:
    trained, held_out = found.metrics.trained().last(), found.metrics.held_out().last()
    return RoundDetail(
        **_said(found),
        trained=_metrics(trained),
        held_out=_metrics(held_out),
        alarms=[AlarmOut.model_validate(alarm) for alarm in found.alarms.all()],
    )


def _metrics(found: RoundMetric | None) -> MetricsOut | None:
    return MetricsOut.model_validate(found) if found else None


def _said(found: Round) -> dict[str, Any]:
    alike = ("number", "state", "done", "total", "message", "pair_count", "created_at", "state_since", "ended_at")
    settings = settings_of(found) | {"selection": Selection.of(found.selection).as_json()}
    return {
        **{name: getattr(found, name) for name in alike},
        "policy": found.policy.name,
        "result": found.result.name if found.result else None,
        "launched_by": found.launched_by.get_username() if found.launched_by else None,
        "export_sha256": found.export_sha256 or None,
        "settings": Settings(**settings),
    }
