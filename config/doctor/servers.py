"""Database, queue, workers, engine and mail: what other processes do for this one."""

import smtplib
from collections.abc import Iterator
from pathlib import Path

import urllib3
from django.conf import settings
from django.core.mail import get_connection
from django.db import Error, connection
from django.utils import timezone

from config import readiness
from config.doctor import Finding, fault, ok, warning
from config.metrics import queue_names
from config.models import Process
from generation.engines.opening import VLLM, VLLM_SERVER
from generation.version import VERSION
from training.models import Round

OLDEST_POSTGRES = 14
SECONDS = 5.0
LATE = 120  # seconds


def database() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), now()")
            number, now = cursor.fetchone()
            cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            (is_super,) = cursor.fetchone()
            names = ("fsync", "full_page_writes", "synchronous_commit")
            cursor.execute("SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off'", [list(names)])
            unsafe = [name for (name,) in cursor.fetchall()]
    except Error as error:
        said = str(error).strip().splitlines()[0]
        yield fault("database", f"It does not answer: {said}", "Start it, or correct DATABASE_URL.")
        return
    major = int(connection.pg_version) // 10_000  # type: ignore[attr-defined]
    if major < OLDEST_POSTGRES:
        yield fault("database", f"PostgreSQL {number}", f"Use PostgreSQL {OLDEST_POSTGRES} or newer.")
    else:
        yield ok("database", f"PostgreSQL {number}{', the embedded one' if settings.EMBEDDED_POSTGRES else ''}")
    if unsafe:
        what = f"{', '.join(unsafe)} is off: judgements that were acknowledged can be lost when the machine stops."
        yield fault("database", what, f"ALTER SYSTEM RESET {unsafe[0]}; SELECT pg_reload_conf();")
    if is_super and not settings.EMBEDDED_POSTGRES:
        yield warning("database", "The role is a superuser.", "Give Storyloop a role that owns its database alone.")
    if (off := abs((timezone.now() - now).total_seconds())) > SECONDS:
        yield warning("clock", f"This machine's clock is {off:.0f} s off the database's.", "Run an NTP client on both.")


def migrations() -> Iterator[Finding]:
    missing, newer = readiness.unapplied(), readiness.newer()
    if missing:
        yield fault("migrations", f"{len(missing)} are to be applied, {missing[0]} first.", "Run manage.py migrate.")
    if newer:
        what = f"The database is newer than this code ({VERSION}): it has {newer[-1]}."
        yield fault("migrations", what, "Update Storyloop on this machine.")
    if not missing and not newer:
        yield ok("migrations", "all applied")


def broker() -> Iterator[Finding]:
    said = readiness.broker()
    own = settings.CELERY_BROKER_URL.startswith("pgmq")
    if said == readiness.OK:
        yield ok("broker", "the queue in the database" if own else "it answers")
    else:
        mend = "Run manage.py migrate." if own else "Start it, or correct CELERY_BROKER_URL."
        mend = "Install it: pip install -c constraints.txt 'storyloop[redis]'." if "client" in said else mend
        yield fault("broker", said, mend)


def processes() -> Iterator[Finding]:
    """By the rows that workers and beats keep."""
    alive = list(Process.objects.alive())
    beats = [one for one in alive if one.role == "beat"]
    heard = {name for one in alive for name in one.queues}
    if not beats:
        yield fault(
            "beat", "None runs: nothing is swept, scheduled or sent.", "Start one: systemctl start storyloop-beat."
        )
    elif len(beats) > 1:
        where = ", ".join(f"{one.host} ({one.pid})" for one in beats)
        yield warning("beat", f"{len(beats)} run: {where}.", "One is enough: stop the others.")
    else:
        yield ok("beat", f"on {beats[0].host}")
    for name in queue_names():
        workers = [one for one in alive if name in one.queues]
        if workers:
            yield ok("workers", f"queue {name}: {', '.join(sorted({one.host for one in workers}))}")
        else:
            yield fault(
                "workers", f"No worker listens to the queue {name}.", "Start one: systemctl start storyloop-worker."
            )
    if old := sorted({f"{one.version} on {one.host}" for one in alive if one.version != VERSION}):
        yield warning(
            "workers", f"They run other versions than this one ({VERSION}): {', '.join(old)}.", "Update them."
        )
    if heard or beats:
        yield from _left_alone()


def _left_alone() -> Iterator[Finding]:
    for one in Round.objects.untaken():
        waited = (timezone.now() - (one.lease_until or one.state_since)).total_seconds()
        if waited > LATE:
            what = f"Nobody has worked on round {one.number} for {waited / 60:.0f} minutes."
            yield fault("rounds", what, "Look into the log of the worker that trains.")


def engine() -> Iterator[Finding]:
    if settings.ENGINE == VLLM:
        python = Path(settings.VLLM_PYTHON)
        if python.exists():
            yield ok("engine", f"vLLM's Python: {python}")
        else:
            yield fault("engine", f"There is no vLLM at {python}.", "make install-vllm, or set STORYLOOP_VLLM_PYTHON.")
    elif settings.ENGINE == VLLM_SERVER:
        said = {url: _server_says(url) for url in settings.VLLM_URLS}
        silent = {url: why for url, why in said.items() if why}
        told = "; ".join(f"{url} {why}" for url, why in silent.items())
        mend = "Start it (manage.py vllm_server), or correct STORYLOOP_VLLM_URLS or STORYLOOP_VLLM_API_KEY."
        if len(silent) == len(said):
            yield fault("engine", f"No vLLM server answers: {told}.", mend)
        elif silent:
            yield warning("engine", f"Not all vLLM servers answer: {told}.", mend)
        else:
            yield ok("engine", f"{len(said)} vLLM servers answer")
    else:
        yield ok("engine", settings.ENGINE)


def _server_says(url: str) -> str:
    """ "" if it is well."""
    headers = {"Authorization": f"Bearer {settings.VLLM_API_KEY}"} if settings.VLLM_API_KEY else {}
    try:
        pool = urllib3.PoolManager(retries=False, timeout=SECONDS)
        answer = pool.request("GET", f"{url.rstrip('/')}/v1/models", headers=headers, redirect=False)
    except urllib3.exceptions.HTTPError:
        return "does not answer"
    return "" if answer.status == 200 else f"answers {answer.status}"


def mail() -> Iterator[Finding]:
    if not settings.MAIL_SERVER:
        yield warning("mail", "There is no mail server: nobody is told of rounds.", "Set STORYLOOP_EMAIL_URL.")
        return
    try:
        asked = get_connection(timeout=SECONDS)
        asked.open()
        asked.close()
    except (OSError, smtplib.SMTPException) as error:
        said = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}: {type(error).__name__}"  # a refusal may quote the name
        yield fault("mail", f"The mail server cannot be used, {said}.", "Correct STORYLOOP_EMAIL_URL.")
    else:
        yield ok("mail", f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT} answers")
