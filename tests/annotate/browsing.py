"""What a browser does on the experts' pages, and what it reads there."""

import re
from typing import Any

from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from annotate.models import Assignment

HTMX = {"HTTP_HX_REQUEST": "true"}
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def page_of(assignment: Assignment) -> str:
    return reverse("judge_comparison", args=[assignment.key])


def html(response: HttpResponse) -> str:
    return response.content.decode()


def tab(response: HttpResponse) -> dict[str, str]:
    """What the page sends of itself with everything: which view it is, and what it has read."""
    return dict(re.findall(r'name="(page|version)" value="([^"]*)"', html(response)))


def open_tab(client: Client, assignment: Assignment) -> dict[str, str]:
    return tab(client.get(page_of(assignment)))


def post(client: Client, name: str, assignment: Assignment, *, htmx: bool = False, **data: Any) -> HttpResponse:
    return client.post(reverse(name, args=[assignment.key]), data, **(HTMX if htmx else {}))


def submit(client: Client, assignment: Assignment, *, htmx: bool = False, **data: Any) -> HttpResponse:
    return post(client, "submit_judgement", assignment, htmx=htmx, **{"verdict": "ranked", **data})


def skip(client: Client, assignment: Assignment, *, htmx: bool = False) -> HttpResponse:
    return post(client, "skip_comparison", assignment, htmx=htmx)


def keep(client: Client, assignment: Assignment, **data: Any) -> HttpResponse:
    """The draft that the page sends by itself."""
    return post(client, "keep_draft", assignment, **data)


def messages_in(response: HttpResponse) -> list[str]:
    """What the toast says of the act before."""
    return re.findall(r'<div class="message success toast">\s*<span>(.*?)</span>', html(response))


def shown_texts(response: HttpResponse) -> list[str]:
    """The stories in the order shown, their paragraphs joined."""
    stories = re.findall(r'<div class="story"[^>]*>(.*?)</div>', html(response))
    return ["\n".join(re.findall(r"<p[^>]*>(.*?)</p>", story)) for story in stories]


def address(response: HttpResponse) -> str:
    """Where the page's answer goes."""
    return re.search(r'id="judgement" method="post" action="([^"]+)"', html(response))[1]


def checked(response: HttpResponse) -> set[tuple[str, str]]:
    """The stories chosen as best and worst."""
    return set(re.findall(r'name="(best|worst)" value="(\d)" checked', html(response)))
