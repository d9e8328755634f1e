"""Whose token it is."""

from datetime import datetime

from ninja import Field, Router, Schema

from annotate.permissions import expert_of
from config.api.access import ApiRequest, Token
from generation.permissions import is_admin

router = Router(tags=["account"], auth=Token())


class Me(Schema):
    user: str = Field(description="the account's name", examples=["admin"])
    admin: bool = Field(description="whether the other endpoints are open to it")
    audience: str | None = Field(None, description="of an expert: educator, parent or writer", examples=["educator"])
    token: str = Field(description="the token's name", examples=["nightly import"])
    expires_at: datetime | None = Field(None, description="when the token ends; null: never")


@router.get("/me", response=Me, summary="Whose token this is")
def get_me(request: ApiRequest) -> Me:
    """To see whether a token works, and what it may do."""
    expert = expert_of(request.user)
    return Me(
        user=request.user.get_username(),
        admin=is_admin(request.user),
        audience=expert.audience if expert else None,
        token=request.auth.name,
        expires_at=request.auth.expires_at,
    )
