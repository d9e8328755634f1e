"""The queue in PostgreSQL (kombu's pgmq transport), with a consumer that outlives its connections.

kombu 5.7.0 acknowledges a message first in the database and then in its own list of messages under way. If the
connection is lost between, the message stays in that list for good: a worker that fetches one at a time (ours do)
waits for an acknowledgement that is over, and takes no task any more. `make chaos` showed it: no error follows,
because the pool of connections mends itself.
"""

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, pgmq

log = logging.getLogger(__name__)


class Channel(pgmq.Channel):
    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        try:
            super().basic_ack(delivery_tag, multiple=multiple)
        except Exception as error:  # noqa: BLE001  psycopg's, or of a channel that is closed by now
            self._forget(delivery_tag, error)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().basic_reject(delivery_tag, requeue=requeue)
        except Exception as error:  # noqa: BLE001
            self._forget(delivery_tag, error)

    def _forget(self, delivery_tag: str, error: Exception) -> None:
        """The message comes again when it is due, and finds its work done: tasks are made for that."""
        log.warning("a message stays in the queue, its acknowledgement was lost: %s", str(error).strip())
        self.qos.ack(delivery_tag)


class Transport(pgmq.Transport):
    Channel: Any = Channel


def use() -> None:
    """From now on `pgmq://` means this transport."""
    TRANSPORT_ALIASES["pgmq"] = f"{__name__}:Transport"
