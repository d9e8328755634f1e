"""The environment, read through functions that raise on nonsense: DEBUG="no" must not mean True."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from config.variables import KNOWN, Variable


class BadEnvironment(ValueError):
    """A variable that cannot be meant as it stands; the message names it and what it may be."""


def text(name: str, default: str = "") -> str:
    """The variable NAME, or what stands in the file that NAME_FILE names: so are secrets mounted into containers.

    default, here and below: where that of config/variables.py is None, as other settings decide. It has to be declared
    there; LookupError if it is not.
    """
    return _given(name) or str(_default(name, default))


def secret(name: str) -> str:
    """What must not be guessed; "" if there is none."""
    value, at_least = _given(name), _declared(name).at_least
    if value and len(value) < at_least:
        raise BadEnvironment(f"{name} is too short: give {at_least} characters or more")  # not the value itself
    return value


def choice(name: str, default: str = "") -> str:
    """One of those that the variable may be, however it is capitalized."""
    value, choices = text(name, default), _declared(name).choices
    found = next((one for one in choices if one.lower() == value.lower()), None)
    if found is None:
        raise BadEnvironment(f"{name} is {value!r}: it may be {', '.join(choices)}")
    return found


def boolean(name: str, default: bool = False) -> bool:
    value = _given(name).lower()
    if value in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return bool(_default(name, default)) if not value else value in ("1", "true", "yes", "on")
    raise BadEnvironment(f"{name} is {value!r}: say true or false")


def integer(name: str, default: int = 0) -> int:
    value, declared = _given(name), _declared(name)
    if not value:
        return int(_default(name, default))
    try:
        number = int(value)
    except ValueError:
        number = declared.at_least - 1
    if number < declared.at_least or (declared.at_most is not None and number > declared.at_most):
        upto = (
            f"{declared.at_least} or more" if declared.at_most is None else f"{declared.at_least} to {declared.at_most}"
        )
        raise BadEnvironment(f"{name} is {value!r}: say a whole number of {upto}")
    return number


def _declared(name: str) -> Variable:
    if name not in KNOWN:
        raise LookupError(f"{name} is not declared: say in config/variables.py what it is")
    return KNOWN[name]


def _default(name: str, given: str | int | bool) -> str | int | bool:
    declared = _declared(name).default
    return given if declared is None else declared


def _given(name: str) -> str:
    """What the environment says; "" if nothing."""
    _declared(name)
    value = os.environ.get(name, "").strip()
    file = os.environ.get(f"{name}_FILE", "").strip()
    if value and file:
        raise BadEnvironment(f"{name} and {name}_FILE are both set: which is meant? Unset one")
    if not file:
        return value
    try:
        os.environ[f"{name}_FILE"] = str(Path(file).absolute())  # as with `pin`
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadEnvironment(f"{name}_FILE is {file!r}, which cannot be read ({type(error).__name__})") from error


def path(name: str, default: Path) -> Path:
    return location(name, default).resolve()


def optional_path(name: str) -> str:
    """ "" if there is none."""
    return str(path(name, Path())) if _given(name) else ""


def location(name: str, default: Path) -> Path:
    """Like path, but links stay: a virtual environment's Python is one, and knows itself by it."""
    given = _given(name)
    return pin(name, Path(given).expanduser().absolute()) if given else default.absolute()


def pin(name: str, found: Path) -> Path:
    """Say it as it is to the processes that we start, too: they run in another directory."""
    os.environ.pop(f"{name}_FILE", None)
    os.environ[name] = str(found)
    return found


def server(name: str, url: str, key: str = "STORYLOOP_VLLM_API_KEY") -> None:
    """Raise BadEnvironment unless `url` is http(s)://host:port and nothing else. key: where its secret belongs."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BadEnvironment(f"{name} has {url!r}: say it like http://127.0.0.1:8100")
    if parts.username or parts.password:
        raise BadEnvironment(f"{name} has a name or password in a URL: set {key} instead")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadEnvironment(f"{name} has {url!r}: leave out what comes after host and port")


def site(name: str, url: str) -> None:
    """Raise BadEnvironment unless `url` is an http(s) address that a path can follow."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BadEnvironment(f"{name} is {url!r}: say it like https://stories.example.org")


def mail(name: str) -> dict[str, str | int | bool]:
    """A mail server like smtp+tls://name:password@host:587, as Django's settings; {} if there is none.

    smtp: as it is, smtp+tls: STARTTLS, smtps: TLS from the first byte.
    """
    url = text(name)
    if not url:
        return {}
    ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
    try:
        parts = urlsplit(url)
        port = parts.port or ports[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if not parts.hostname:
        # without the URL itself: a password may stand in it
        raise BadEnvironment(f"{name} cannot be read: say it like smtp+tls://name:password@mail.example.org:587")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
    }
