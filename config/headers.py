"""Headers of every answer that neither Django nor django-csp sets."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control

Handler = Callable[[HttpRequest], HttpResponse]
# what a page here may never ask for; passkeys are left as browsers have them
PERMISSIONS = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()"


def security_headers(get_response: Handler) -> Handler:
    def answered(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.setdefault("Permissions-Policy", PERMISSIONS)
        response.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return response

    return answered


def no_store(get_response: Handler) -> Handler:
    """No page, fragment or download is kept by a browser or a proxy: who logs out leaves nothing behind.

    Static files are answered before this: their names change with their content.
    """

    def answered(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "no-store" not in response.get("Cache-Control", ""):
            patch_cache_control(response, no_store=True, private=True)
        return response

    return answered
