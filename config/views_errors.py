"""The pages for what went wrong before or beside a view: in both languages at once, as nothing may be known of the
person, and without the database."""

from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views.decorators.csrf import requires_csrf_token

BARE = "<!doctype html><html lang=en><meta charset=utf-8><title>Storyloop</title><h1>Storyloop</h1><p>{}</p></html>"


@requires_csrf_token
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return HttpResponse(_page("400.html", "Bad request"), status=400)


@requires_csrf_token
def server_error(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_page("500.html", "Something went wrong here"), status=500)


def _page(template: str, words: str) -> str:
    """The page; if that is what is broken, as without collected static files, a few words."""
    try:
        return loader.get_template(template).render()
    except Exception:
        return BARE.format(words)
