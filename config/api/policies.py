"""Policies and where they come from."""

from datetime import datetime

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from config.api.access import AdminToken
from config.api.values import Page
from generation.models import Policy

router = Router(tags=["policies"], auth=AdminToken())


class PolicyOut(Schema):
    id: int
    name: str = Field(examples=["round-1"])
    parent: str | None = Field(None, description="the policy that it was trained from; null: a base model")
    made_by_round: int | None = Field(None, description="number of the round; null: it was registered")
    in_use: bool = Field(description="it writes the stories that experts rank now; one policy does")
    weights_hash: str = Field(description="SHA-256 of its weights")
    adapter_hash: str = Field(description="SHA-256 of its adapter; empty: it has none")
    weights_deleted_at: datetime | None = Field(
        None, description="since when only the record is left; null: it is whole"
    )
    created_at: datetime


class Policies(Schema):
    items: list[PolicyOut]
    next: int | None = Field(None, description="the cursor of the next page; null: this is the last")


@router.get("/policies", response=Policies, summary="List policies")
def list_policies(request: HttpRequest, wanted: Query[Page]) -> Policies:
    """In the order in which they were made."""
    found = Policy.objects.select_related("parent", "made_by").filter(pk__gt=wanted.cursor or 0)
    page = list(found.order_by("pk")[: wanted.limit + 1])
    items = [_out(policy) for policy in page[: wanted.limit]]
    return Policies(items=items, next=items[-1].id if len(page) > wanted.limit else None)


def _out(policy: Policy) -> PolicyOut:
    made_by = getattr(policy, "made_by", None)
    return PolicyOut(
        id=policy.pk,
        name=policy.name,
        parent=policy.parent.name if policy.parent else None,
        made_by_round=made_by.number if made_by else None,
        in_use=policy.is_current,
        weights_hash=policy.weights_hash,
        adapter_hash=policy.adapter_hash,
        weights_deleted_at=policy.weights_deleted_at,
        created_at=policy.created_at,
    )
