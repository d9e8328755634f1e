"""Workers and beats say in the database that they run, so that `manage.py doctor` and /metrics know on any machine."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery.signals import beat_init, worker_ready
from django.db import Error, connection
from django.db.models.functions import Now

from generation.version import VERSION

log = logging.getLogger(__name__)
EVERY = 20.0  # seconds
KEPT = timedelta(days=1)  # a process that was killed says nothing of its end


def connect() -> None:
    worker_ready.connect(_worker_ready, dispatch_uid="config.alive")
    beat_init.connect(_beat_init, dispatch_uid="config.alive")


def say_alive(role: str, queues: list[str]) -> None:
    """This process runs now."""
    from config.models import Process

    me: dict[str, Any] = {"host": socket.gethostname()[:255], "pid": os.getpid()}
    told = {"role": role, "version": VERSION, "queues": queues, "seen_at": Now()}
    Process.objects.update_or_create(**me, defaults=told)
    Process.objects.filter(seen_at__lt=Now() - KEPT).delete()


def _worker_ready(sender: Any, **_: object) -> None:
    queues = sorted(sender.app.amqp.queues.consume_from)
    _start(lambda: say_alive("worker", queues))


def _beat_init(**_: object) -> None:
    _start(lambda: say_alive("beat", []))


def _start(act: Callable[[], None]) -> threading.Event:
    """Call `act` now and every EVERY seconds, in a thread that ends with the process, or when the event is set.

    Each time with a database session of its own: a pool's child that is forked later would take an open one along.
    """
    over = threading.Event()

    def beat() -> None:
        while True:
            try:
                act()
            except Error as error:
                log.warning("this process cannot say that it runs: %s", type(error).__name__)
            finally:
                connection.close()
            if over.wait(EVERY):
                return

    threading.Thread(target=beat, daemon=True, name="alive").start()
    return over
