"""A .tar as a download that can be continued: one range of bytes (RFC 9110, 14), if it is still the same file."""

import re

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from generation.policy_files import Tar

ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


def send(request: HttpRequest, tar: Tar, name: str) -> HttpResponseBase:
    """The whole (200), the part that was asked for (206), or 416 where there is none."""
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}"',
        "ETag": f'"{tar.tag}"',
    }
    asked = _asked(request, tar)
    if asked is None:
        body, status = iter(tar), 200
        headers["Content-Length"] = str(tar.size)
    elif asked[0] >= asked[1]:
        return HttpResponse(status=416, headers={**headers, "Content-Range": f"bytes */{tar.size}"})
    else:
        body, status = tar.part(*asked), 206
        headers["Content-Length"] = str(asked[1] - asked[0])
        headers["Content-Range"] = f"bytes {asked[0]}-{asked[1] - 1}/{tar.size}"
    if request.method == "HEAD":
        body = iter(())
    return StreamingHttpResponse(body, status=status, content_type="application/x-tar", headers=headers)


def _asked(request: HttpRequest, tar: Tar) -> tuple[int, int] | None:
    """(first byte, byte behind the last); the same twice where none is meant. None: all of it.

    Ranges that are several, or not understood, are passed over, as the RFC allows; so is one whose If-Range names
    another file. A date there is not compared: only the tag is exact.
    """
    found = ONE_RANGE.fullmatch(request.headers.get("Range", "").strip())
    if request.method != "GET" or not found or found.groups() == ("", ""):
        return None
    if request.headers.get("If-Range", f'"{tar.tag}"') != f'"{tar.tag}"':
        return None
    first, last = found.groups()
    if not first:  # the last so many bytes
        return max(tar.size - int(last), 0), tar.size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, tar.size) if last else tar.size
