"""Every environment variable that Storyloop reads: its type, its default and what it means, once.

config/env.py reads these and no others, settings.py has their values, `make reference` writes docs/settings.md of them.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    TEXT = "text"
    SECRET = "secret"  # noqa: S105  in no log, page, export or message
    SWITCH = "true or false"
    NUMBER = "whole number"
    PATH = "path"
    CHOICE = "one of"


@dataclass(frozen=True)
class Variable:
    """default: None where other settings decide, and `instead` says how. at_least: of a secret, its characters."""

    name: str
    kind: Kind
    default: str | int | bool | None
    help: str
    instead: str = ""
    at_least: int = 0
    at_most: int | None = None
    choices: tuple[str, ...] = ()


def text(name: str, help: str, default: str | None = "", instead: str = "") -> Variable:
    return Variable(name, Kind.TEXT, default, help, instead)


def secret(name: str, help: str, *, at_least: int = 0, instead: str = "") -> Variable:
    return Variable(name, Kind.SECRET, "", help, at_least=at_least, instead=instead)


def switch(name: str, help: str, default: bool | None = False, instead: str = "") -> Variable:
    return Variable(name, Kind.SWITCH, default, help, instead)


def number(
    name: str, help: str, default: int | None, *, at_least: int = 0, at_most: int | None = None, instead: str = ""
) -> Variable:
    return Variable(name, Kind.NUMBER, default, help, instead, at_least, at_most)


def path(name: str, help: str, instead: str = "") -> Variable:
    return Variable(name, Kind.PATH, None, help, instead)


def choice(name: str, help: str, choices: Iterable[str], default: str | None = None, instead: str = "") -> Variable:
    return Variable(name, Kind.CHOICE, default, help, instead, choices=tuple(choices))


GROUPS: dict[str, tuple[Variable, ...]] = {
    "Where things are": (
        path(
            "STORYLOOP_VAR",
            "where the database, models, exports and logs live",
            instead="`var` of the checkout; installed from a wheel: `var` of the current directory",
        ),
        secret(
            "DATABASE_URL",
            "a PostgreSQL server, `postgres://user:password@host/name`",
            instead="the embedded PostgreSQL in `STORYLOOP_VAR`",
        ),
        switch(
            "STORYLOOP_PREPARED_STATEMENTS",
            "PostgreSQL plans a statement once for each connection; `false` behind a PgBouncer in transaction mode",
            True,
        ),
        secret("CELERY_BROKER_URL", "Redis or RabbitMQ (docs/running.md)", instead="`pgmq://`, the same PostgreSQL"),
        text(
            "STORYLOOP_QUEUES",
            "what `manage.py worker` claims: `default`, `generation`, `training`, with commas between "
            "(docs/workers.md)",
            instead="what the machine has the hardware for",
        ),
        number(
            "STORYLOOP_LEASE_SECONDS",
            "seconds that a worker may be silent until another takes over its round",
            30,
            at_least=5,
        ),
        path(
            "STORYLOOP_MODEL_DIR",
            "where rounds keep their policies; without a model store several machines share it (docs/workers.md)",
            instead="`STORYLOOP_VAR/models`",
        ),
        path(
            "STORYLOOP_EXPORT_DIR",
            "where frozen exports lie; without a model store several machines share it (docs/workers.md)",
            instead="`STORYLOOP_VAR/exports`",
        ),
        text(
            "STORYLOOP_MODEL_STORE",
            "what machines share instead of folders: `s3://bucket/prefix`, or `file:///folder` (docs/workers.md)",
        ),
        number(
            "STORYLOOP_MODEL_CACHE_GB",
            "of a machine's copies from the store, those that were not used for longest go above it; `0`: as the disk "
            "has room",
            0,
        ),
        text("STORYLOOP_S3_ENDPOINT", "a server that speaks S3, `https://minio.example.org`", instead="Amazon's"),
        text("STORYLOOP_S3_REGION", "its region, if it wants one"),
        secret("STORYLOOP_S3_ACCESS_KEY", "the key to the bucket", instead="where Amazon's tools look"),
        secret("STORYLOOP_S3_SECRET_KEY", "the secret of that key", instead="where Amazon's tools look"),
        switch("STORYLOOP_S3_PLAIN_HTTP", "the endpoint may be `http://` on another machine: in a network of your own"),
        path(
            "STORYLOOP_WRITER_CACHE",
            "where demo writers are kept",
            instead="`var/writers` of the checkout; installed from a wheel: `STORYLOOP_VAR/writers`",
        ),
    ),
    "Pages": (
        text("STORYLOOP_HOSTS", "host names that are served, with commas between", "127.0.0.1,localhost"),
        text(
            "STORYLOOP_URL",
            "how others reach the pages, `https://stories.example.org`: begins the links in messages",
        ),
        text("STORYLOOP_TIME_ZONE", "of the pages, and of schedules", "UTC"),
        switch("STORYLOOP_DEMO", "admins may ask simulated experts to judge; `manage.py demo` sets it"),
        number("STORYLOOP_IMPORT_MAX_MB", "the largest file of preferences that is taken by the page", 50, at_least=1),
        number(
            "STORYLOOP_API_PER_MINUTE",
            "requests of an API token a minute, over all web processes; `0`: no limit (docs/api.md)",
            600,
        ),
    ),
    "Security": (
        secret(
            "STORYLOOP_SECRET_KEY",
            "Django's secret key; all web processes need the same",
            at_least=50,
            instead="made once, kept in `STORYLOOP_VAR`",
        ),
        switch(
            "STORYLOOP_HTTPS",
            "every page over https alone: redirects, HSTS, cookies that belong to this host (docs/security.md)",
            None,
            instead="`true` if `STORYLOOP_URL` begins with `https://`",
        ),
        switch("STORYLOOP_BEHIND_PROXY", "`true` where a proxy that nobody can go around sets `X-Forwarded-Proto`"),
        number(
            "STORYLOOP_PROXIES",
            "proxies in front that append to `X-Forwarded-For`: wrong passwords are counted by address",
            None,
            instead="`0`; with `STORYLOOP_BEHIND_PROXY`: `1`",
        ),
        number(
            "STORYLOOP_HSTS_SECONDS",
            "how long browsers remember to use https; begin with `3600` if you are not sure",
            365 * 24 * 3600,
        ),
        choice(
            "STORYLOOP_SECOND_FACTOR",
            "who must log in with a second factor (docs/accounts.md)",
            ("admins", "all", "none"),
            instead="`admins`; with `STORYLOOP_DEMO`: `none`",
        ),
        number("STORYLOOP_SESSION_HOURS", "a session ends so many hours after logging in", 14 * 24, at_least=1),
        number("STORYLOOP_IDLE_HOURS", "a session ends after so many hours without any page", 72, at_least=1),
        switch("STORYLOOP_PRIVATE_WEBHOOKS", "webhooks may go to addresses inside your own network"),
        switch("STORYLOOP_DEBUG", "Django's debug pages; never where others can reach it"),
    ),
    "Models and writing": (
        path(
            "STORYLOOP_BASE_MODEL",
            "directory of the model that everything begins with: a Hugging Face causal model, safetensors",
            instead="the demo writer, made once",
        ),
        choice(
            "STORYLOOP_ENGINE",
            "what writes the stories (docs/generation.md)",
            ("transformers", "vllm", "vllm-server"),
            "transformers",
        ),
        path(
            "STORYLOOP_VLLM_PYTHON",
            "the Python of the environment that vLLM is installed in",
            instead="`.venv-vllm/bin/python` of the checkout; installed from a wheel: "
            "`STORYLOOP_VAR/venv-vllm/bin/python`",
        ),
        text("STORYLOOP_VLLM_URLS", "the servers of `vllm-server`, with commas between"),
        secret("STORYLOOP_VLLM_API_KEY", "the servers' key, if they want one"),
        number("STORYLOOP_VLLM_PATIENCE", "seconds without any server that answers until a run ends", 120, at_least=1),
        number("STORYLOOP_VLLM_GPU_MEMORY", "percent of the GPU's memory that vLLM takes", 90, at_least=1, at_most=100),
        number("STORYLOOP_VLLM_MAX_MODEL_LEN", "tokens of prompt and story together; `0`: the model's", 0),
        number("STORYLOOP_MAX_STORY_TOKENS", "a story is cut off there", 256, at_least=16),
        secret(
            "STORYLOOP_HUB_TOKEN",
            "a token that may write to the Hugging Face Hub, for `manage.py push_policy` alone (docs/policies.md)",
        ),
        text("STORYLOOP_HUB_ENDPOINT", "another server that speaks like the Hub", "https://huggingface.co"),
    ),
    "Judging": (
        number(
            "STORYLOOP_STORIES_PER_PROMPT",
            "how many stories experts rank at once: more are not read with care",
            4,
            at_least=3,
            at_most=5,
        ),
        number("STORYLOOP_PLACES_PER_COMPARISON", "how many experts judge each comparison", 3, at_least=1),
        number("STORYLOOP_RESERVATION_MINUTES", "how long a place is held for an expert", 60, at_least=1),
        number("STORYLOOP_MIN_JUDGEMENTS", "below this no win rate is shown", 20, at_least=1),
    ),
    "Mail, logs and figures": (
        secret(
            "STORYLOOP_EMAIL_URL",
            "the mail server: `smtp+tls://name:password@host:587` (STARTTLS), `smtps://...:465` or `smtp://...:25`; "
            "none: no e-mail",
        ),
        text("STORYLOOP_EMAIL_FROM", "who the e-mail comes from", "storyloop@localhost"),
        choice(
            "STORYLOOP_LOG_FORMAT", "`line` for people, `json` for programs (docs/running.md)", ("line", "json"), "line"
        ),
        choice(
            "STORYLOOP_LOG_LEVEL",
            "of the processes' logs",
            ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            "INFO",
        ),
        secret(
            "STORYLOOP_METRICS_TOKEN",
            "who knows it reads `/metrics` (docs/running.md); none: there is no such page",
            at_least=20,
        ),
    ),
    "For tests, compose.yaml, and between our own processes": (
        path("STORYLOOP_MODELS", "the folder of base models that compose.yaml mounts", instead="`./var/base-models`"),
        text("STORYLOOP_WORKER_QUEUES", "what compose.yaml's worker claims", "default,generation"),
        text(
            "STORYLOOP_DATABASE",
            "name of the database in the embedded PostgreSQL: the suite has one of its own",
            "storyloop",
        ),
        text("STORYLOOP_ROUND_ID", "the round that a process works for, for its log; the worker sets it"),
        path("STORYLOOP_TEST_VAR", "where the suite keeps its database and models", instead="`var/test`"),
        text("STORYLOOP_VLLM_TESTS", "`required`: tests of vLLM fail where it is not installed, as in CI"),
    ),
}
KNOWN = {variable.name: variable for variables in GROUPS.values() for variable in variables}


def unknown(names: Iterable[str]) -> dict[str, str]:
    """{name: the known one that is nearest, or ""} of those that begin like ours and are none: nothing reads them."""
    ours = [name for name in names if name.startswith("STORYLOOP_") and name.removesuffix("_FILE") not in KNOWN]
    return {name: next(iter(difflib.get_close_matches(name, KNOWN, n=1)), "") for name in ours}
