"""Types that several endpoints share: names, numbers of pages, figures."""

import math
from typing import Annotated, Any

from ninja import Field, Schema
from pydantic import AfterValidator, BeforeValidator

MOST_A_PAGE = 500
HIGHEST_ID = 2**63 - 1
HIGHEST_NUMBER = 2**31 - 1


def _finite(value: Any) -> Any:
    return value if value is None or math.isfinite(value) else None


def _whole_text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("holds a NUL character")
    return value


# JSON has no NaN: a figure that came out as one is null
Figure = Annotated[float | None, BeforeValidator(_finite)]
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00]+$"), AfterValidator(_whole_text)]
Id = Annotated[int, Field(ge=1, le=HIGHEST_ID)]
Number = Annotated[int, Field(ge=1, le=HIGHEST_NUMBER)]


class Strict(Schema):
    """A body: a name that is not known is a fault, not passed over."""

    model_config = {"extra": "forbid"}


class Page(Schema):
    """How much of a list, and from where."""

    limit: int = Field(100, ge=1, le=MOST_A_PAGE, description=f"how many, {MOST_A_PAGE} at most")
    cursor: int | None = Field(
        None, ge=0, le=HIGHEST_ID, description="from the answer before, its `next`; none: from the beginning"
    )
