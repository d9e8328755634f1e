"""Preference pairs out."""

import json
from collections.abc import Iterator
from typing import Any, Literal

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Field, Query, Router, Schema

from annotate.models import Audience
from annotate.pairs import OVERALL, PreferencePair, export_row, with_texts
from config.api.access import AdminToken, refused
from config.api.problems import Fault, Refused, unprocessable
from config.api.values import MOST_A_PAGE
from generation.models import Language, Policy
from training import selection as selections
from training.selection import CRITERIA, MIN_AGREEMENT, OLDER_WEIGHT, BadSelection, Selection

router = Router(tags=["pairs"], auth=AdminToken())
LINES = "application/x-ndjson"
HIGHEST_OFFSET = 10**9


class PairOut(Schema):
    """A line of an export, as TRL's DPOTrainer takes it."""

    prompt: str = Field(description="the text that the policy read")
    chosen: str
    rejected: str
    chosen_ids: list[int] = Field(description="the sampler's token ids; empty for a story that an expert has edited")
    rejected_ids: list[int]
    weight: float = Field(description="(for - against) / (for + against), times what a mix makes of it; 0-1")
    criterion: str = Field(description="by what it is judged; overall is the ranking", examples=[OVERALL])
    judgements_for: int = Field(description="experts who prefer `chosen`", examples=[3])
    judgements_against: int = Field(description="experts who prefer `rejected`", examples=[0])
    simulated_judgements: int = Field(description="how many of both are simulated experts'", examples=[0])
    prompt_id: int
    chosen_id: int
    rejected_id: int
    edited: bool = Field(description="`chosen` is a story as an expert has improved it")
    policy: str = Field(description="that wrote `chosen`", examples=["base"])
    language: str
    theme: str
    story_type: str
    age_band: str
    split: str


class Pairs(Schema):
    items: list[PairOut]
    total: int = Field(description="how many pairs the selection has", examples=[570])


class Wanted(Schema):
    """What of the judgements: the selection of a round, as it would be launched now."""

    rounds: Literal["this", "all", "mix"] = Field(
        "this", description="stories of the policy in use, of all of its base model, or all with older ones less"
    )
    older_weight: float = Field(
        0.5, ge=OLDER_WEIGHT[0], le=OLDER_WEIGHT[1], description="in a mix, for each round between"
    )
    language: list[str] = Field([], description=f"any of {', '.join(Language.values)}; none: all", max_length=10)
    theme: list[str] = Field([], description="of training prompts; none: all", max_length=100)
    audience: list[str] = Field([], description=f"any of {', '.join(Audience.values)}; none: all", max_length=10)
    criterion: list[str] = Field([OVERALL], description=f"any of {', '.join(CRITERIA)}", max_length=10)
    min_agreement: float = Field(
        MIN_AGREEMENT[0], ge=MIN_AGREEMENT[0], le=MIN_AGREEMENT[1], description="share of experts who must agree"
    )
    which: Literal["all", "adjacent", "extremes"] = Field("all", description="of the pairs of an order")
    simulated: bool = Field(False, description="whether simulated experts count")
    limit: int = Field(100, ge=1, le=MOST_A_PAGE, description=f"how many, {MOST_A_PAGE} at most")
    offset: int = Field(0, ge=0, le=HIGHEST_OFFSET, description="how many to leave out at the beginning")


PARTS = {"languages": "language", "themes": "theme", "audiences": "audience", "criteria": "criterion"}
NOT_ASKED = {"simulated", "origins", "imported_weight"}  # these are experts' pairs alone
CONTENT = {
    "responses": {
        200: {
            "content": {
                LINES: {"schema": {"type": "string", "description": "a pair a line; all of them, whatever limit says"}}
            }
        }
    }
}


@router.get(
    "/pairs",
    response=Pairs,
    summary="Read preference pairs",
    openapi_extra={"responses": {**refused(409)["responses"], **CONTENT["responses"]}},
)
def list_pairs(request: HttpRequest, wanted: Query[Wanted]) -> Any:
    """As judgements and stories stand now, in a fixed order; the same pairs of experts that a round with this
    selection would be trained on. With `Accept: application/x-ndjson` all of them, a line each: take these if
    judgements may come in while you read."""
    policy = Policy.objects.current()
    if policy is None:
        raise Refused(409, "There is no policy yet.")
    found = selections.pairs(_selection(wanted), policy)
    if request.get_preferred_type(["application/json", LINES]) == LINES:
        return StreamingHttpResponse(_lines(found), content_type=LINES)
    items = found[wanted.offset : wanted.offset + wanted.limit]
    return Pairs(items=[PairOut.model_validate(export_row(pair)) for pair in with_texts(items)], total=len(found))


def _lines(found: list[PreferencePair]) -> Iterator[str]:
    return (json.dumps(export_row(pair), ensure_ascii=False) + "\n" for pair in with_texts(found))


def _selection(wanted: Wanted) -> Selection:
    names = {name: PARTS.get(name, name) for name in Selection.__dataclass_fields__ if name not in NOT_ASKED}
    given = {name: getattr(wanted, ours) for name, ours in names.items()}
    try:
        return Selection.of(given, simulated=wanted.simulated).check_themes()
    except BadSelection as error:
        raise unprocessable(
            str(error), Fault(place=["query", PARTS.get(error.part, error.part)], detail=str(error))
        ) from error
