"""Posting JSON to an address that an admin has typed, and to nobody inside our own network.

Who may type an address must not thereby reach what only this machine can reach (server-side request forgery, OWASP
ASVS 5.0, 1.3.6): the name is resolved once, every address that it has is checked, and the connection goes to one
of those, so that a name that answers differently the second time gains nothing. Redirects are not followed.
"""

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext as _

SECONDS = 10.0  # to connect, and for each part of the answer
ALTOGETHER = 60.0  # seconds: a receiver may send its answer a byte at a time
READ = 2000  # bytes of the answer: nobody needs more
NAT64 = ipaddress.ip_network("64:ff9b::/96")
PORTS = {"http": 80, "https": 443}


class BadAddress(ValueError):
    """The address cannot be meant; the message says what to do."""


class NotSent(RuntimeError):
    """The message did not arrive; the text says why. status: HTTP's, if there was an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def signature(secret: str, body: bytes) -> str:
    """sha256=hex of HMAC-SHA256 (RFC 2104) of the body as it is sent."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def parts_of(url: str) -> tuple[SplitResult, str, int]:
    """(parts, host, port). Raises BadAddress."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise BadAddress(_("This is no address: say it like https://example.org/hook")) from None
    if parts.scheme not in PORTS or not host or not url.isascii() or any(c.isspace() or ord(c) < 32 for c in url):
        raise BadAddress(_("Say an address that begins with https:// or http://, like https://example.org/hook"))
    if parts.username or parts.password:
        raise BadAddress(_("Leave out name and password: the receiver knows us by the signature."))
    return parts, host, port


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> int:
    """POST the body and return the status, 200 to 299. Raises NotSent. private: hosts of our own network, too."""
    try:
        parts, host, port = parts_of(url)
    except BadAddress as error:
        raise NotSent(str(error)) from error
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)  # with the socket given it resolves nothing
    end = time.monotonic() + ALTOGETHER
    try:
        connection.sock = _connected(host, port, end, tls=parts.scheme == "https", private=private)
        with _hung_up_at(end, connection.sock):
            connection.request("POST", target, body, {"Host": parts.netloc, **headers})
            answer = connection.getresponse()
            answer.read(READ)
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # a name with a label that is too long
        said = {"host": host, "error": str(error) or type(error).__name__}
        raise NotSent(_("%(host)s does not answer: %(error)s") % said) from error
    finally:
        connection.close()
    return _accepted(host, answer.status)


@contextmanager
def _hung_up_at(end: float, link: socket.socket) -> Iterator[None]:
    """Ends what waits for `link` at that time. Raises TimeoutError then."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(end - time.monotonic(), hang_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            raise TimeoutError(f"no whole answer after {ALTOGETHER:g} s")


def _accepted(host: str, status: int) -> int:
    if 300 <= status < 400:
        said = _("%(host)s sends us elsewhere (%(status)d). Redirects are not followed: give the address itself.")
        raise NotSent(said % {"host": host, "status": status}, status)
    if not 200 <= status < 300:
        raise NotSent(_("%(host)s answers %(status)d.") % {"host": host, "status": status}, status)
    return status


def _connected(host: str, port: int, end: float, *, tls: bool, private: bool) -> socket.socket:
    """A socket to the first address that answers before `end`, of those that were checked."""
    problem: OSError = ConnectionError(_("no address"))
    for address in addresses(host, port, private=private):
        try:
            found = socket.create_connection((address, port), timeout=_left(end))
        except OSError as error:
            problem = error
            continue
        found.settimeout(SECONDS)
        try:
            return ssl.create_default_context().wrap_socket(found, server_hostname=host) if tls else found
        except OSError:
            found.close()
            raise
    raise problem


def _left(end: float) -> float:
    """Seconds for one address. Raises TimeoutError if none are left."""
    left = min(SECONDS, end - time.monotonic())
    if left <= 0:
        raise TimeoutError(f"none of its addresses after {ALTOGETHER:g} s")
    return left


def addresses(host: str, port: int, *, private: bool) -> list[str]:
    """All that the name resolves to. Raises NotSent if one of them is not in the public internet."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = list(dict.fromkeys(str(row[4][0]) for row in rows))
    inside = [address for address in found if not is_public(address)]
    if inside and not private:
        said = _(
            "%(host)s is %(address)s, an address inside a network of its own. Whoever runs this installation can allow "
            "such receivers: STORYLOOP_PRIVATE_WEBHOOKS=true."
        )
        raise NotSent(said % {"host": host, "address": inside[0]})
    return found


def is_public(address: str) -> bool:
    """Whether the IP address is one of the public internet; one that is wrapped into IPv6 is unwrapped."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return is_public(str(found.ipv4_mapped))
        if found in NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found.sixtofour or found.teredo:
            return False
    return found.is_global and not found.is_multicast
