"""Stories out."""

from datetime import datetime
from typing import Literal

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from config.api.access import AdminToken
from config.api.values import Id, Name, Page
from generation.models import Story

router = Router(tags=["stories"], auth=AdminToken())


class StoryOut(Schema):
    """A completion with all that is needed to draw it again."""

    id: int
    prompt_id: int
    policy: str = Field(description="name of the policy that wrote it", examples=["base"])
    language: str = Field(description="of its prompt", examples=["en"])
    sample_index: int = Field(description="its place in the sampling plan, from 0", examples=[0])
    rendered_prompt: str = Field(description="the text that the policy read: prompt, chat template and all")
    text: str
    tokens: int = Field(description="how many the policy sampled, without the end token", examples=[212])
    token_ids: list[int] | None = Field(None, description="as sampled, if asked for")
    finish_reason: Literal["stop", "length"] = Field(description="ended by itself, or cut off at the length limit")
    temperature: float
    top_p: float
    min_p: float
    top_k: int = Field(description="0: all tokens")
    repetition_penalty: float
    seed: int
    draws: int = Field(description="times it was drawn until it was accepted")
    weights_hash: str = Field(description="of the weights that wrote it, as the engine reported it")
    engine: str = Field(description="what wrote it, with its version", examples=["transformers 5.19.0"])
    created_at: datetime


class Stories(Schema):
    items: list[StoryOut]
    next: int | None = Field(None, description="the cursor of the next page; null: this is the last")


class Wanted(Page):
    policy: Name | None = Field(None, description="only of the policy of this name")
    prompt: Id | None = Field(None, description="only of the prompt with this id")
    language: Literal["en", "zh"] | None = Field(None, description="only for prompts of this language")
    cut_off: bool = Field(False, description="also those that were cut off: they are not shown and not trained on")
    token_ids: bool = Field(False, description="with the sampler's token ids")


@router.get("/stories", response=Stories, summary="List stories")
def list_stories(request: HttpRequest, wanted: Query[Wanted]) -> Stories:
    """In the order in which they were written. Stories that were reported as unsafe for children are never among
    them, as on the pages."""
    page = list(_chosen(wanted)[: wanted.limit + 1])
    items = [_out(story, token_ids=wanted.token_ids) for story in page[: wanted.limit]]
    return Stories(items=items, next=items[-1].id if len(page) > wanted.limit else None)


def _chosen(wanted: Wanted) -> QuerySet[Story]:
    found = Story.objects.filter(withdrawn_at=None) if wanted.cut_off else Story.objects.presentable()
    found = found.filter(pk__gt=wanted.cursor or 0).select_related("prompt", "policy").order_by("pk")
    if wanted.policy:
        found = found.filter(policy__name=wanted.policy)
    if wanted.prompt:
        found = found.filter(prompt=wanted.prompt)
    return found.filter(prompt__language=wanted.language) if wanted.language else found


def _out(story: Story, *, token_ids: bool) -> StoryOut:
    said = ("policy", "language", "tokens", "token_ids")
    same = {name: getattr(story, name) for name in StoryOut.model_fields if name not in said}
    return StoryOut(
        policy=story.policy.name,
        language=story.prompt.language,
        tokens=len(story.token_ids),
        token_ids=story.token_ids if token_ids else None,
        **same,
    )
