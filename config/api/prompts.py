"""Prompts in."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from config.api.access import AdminToken
from config.api.problems import Fault, unprocessable
from config.api.values import Page, Strict
from generation.models import Prompt
from generation.prompts import MAX_TEXT, BadPrompts, add_prompts

router = Router(tags=["prompts"], auth=AdminToken())
MOST = 1000
Short = Annotated[str, Field(min_length=1, max_length=60)]


class PromptIn(Strict):
    text: str = Field(
        min_length=1,
        max_length=MAX_TEXT,
        description="what the policy is asked for",
        examples=["Write a story about a fox who learns to share."],
    )
    language: Literal["en", "zh"] = Field(description="of the story", examples=["en"])
    theme: Short = Field(examples=["sharing"])
    story_type: Short = Field(examples=["fable"])
    age_band: str = Field(min_length=1, max_length=12, description="of the readers, in years", examples=["5-6"])
    split: Literal["train", "evaluation"] = Field(
        "train", description="evaluation prompts are held out: no preference pair is made from them"
    )


class PromptOut(PromptIn):
    model_config = {"extra": "ignore"}

    id: int = Field(examples=[17])
    created_at: datetime


class PromptsIn(Strict):
    prompts: list[PromptIn] = Field(min_length=1, max_length=MOST, description="one or many; all are stored, or none")


class Stored(Schema):
    new: int = Field(description="how many were stored", examples=[1])
    known: int = Field(description="how many were there already, by text, and stay as they are", examples=[0])
    ids: list[int] = Field(description="of the prompts, in the order of the request", examples=[[17]])


class Prompts(Schema):
    items: list[PromptOut]
    next: int | None = Field(None, description="the cursor of the next page; null: this is the last")


class Wanted(Page):
    language: Literal["en", "zh"] | None = Field(None, description="only of this language")
    split: Literal["train", "evaluation"] | None = Field(None, description="only of this split")


@router.post("/prompts", response={201: Stored}, summary="Add prompts")
def add_prompts_(request: HttpRequest, body: PromptsIn) -> Any:
    """As `manage.py import_prompts`: all of them or none. A text that is there already is left as it is, so
    sending the same again is harmless. Stories are written when an admin has them written (Writing), or in the next
    round."""
    try:
        done = add_prompts([prompt.model_dump() for prompt in body.prompts])
    except BadPrompts as error:
        faults = [Fault(place=["body", "prompts", place], detail=said) for place, said in error.places]
        raise unprocessable("Nothing was stored: see faults.", *faults) from error
    return Status(201, Stored(new=done.new, known=done.known, ids=done.ids))


@router.get("/prompts", response=Prompts, summary="List prompts")
def list_prompts(request: HttpRequest, wanted: Query[Wanted]) -> Prompts:
    """In the order in which they were stored."""
    found = Prompt.objects.filter(pk__gt=wanted.cursor or 0)
    if wanted.language:
        found = found.filter(language=wanted.language)
    if wanted.split:
        found = found.filter(split=wanted.split)
    page = list(found.order_by("pk")[: wanted.limit + 1])
    items = [PromptOut.model_validate(prompt) for prompt in page[: wanted.limit]]
    return Prompts(items=items, next=items[-1].id if len(page) > wanted.limit else None)
