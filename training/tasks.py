"""Thin tasks: ids in, one call, state out. A task delivered twice finds the round taken and leaves."""

import time

from celery import shared_task

from annotate import simulated
from generation.queues import GENERATION, TRAINING
from training import notices, promotion, rounds, schedule, versions
from training.models import Round
from training.run import work_on


@shared_task
def run_round(round_id: int) -> None:
    """Freeze its pairs and train on them."""
    _work(round_id, TRAINING)


@shared_task
def write_round(round_id: int) -> None:
    """Have its policy write, and open the comparisons."""
    _work(round_id, GENERATION)


def _work(round_id: int, queue: str) -> None:
    lease = rounds.take_round(round_id, queue=queue)
    if lease and work_on(lease, queue=queue):
        send_round(round_id)


def send_round(round_id: int) -> None:
    """Tell the queue whose workers go on with it."""
    found = Round.objects.get(pk=round_id)
    (run_round if found.queue == TRAINING else write_round).delay(round_id)


@shared_task
def sweep_rounds() -> None:
    """Put back what a dead worker or a lost message left behind."""
    versions.give_up()
    for round_id in schedule.rounds_to_send():
        send_round(round_id)


@shared_task
def launch_due_round() -> None:
    round_ = schedule.launch_if_due()
    if round_:
        run_round.delay(round_.pk)


@shared_task
def promote_due_round() -> None:
    promotion.promote_if_due()


@shared_task
def send_notices() -> None:
    """Write down what has happened, and send what is due: also what a dead worker has left."""
    notices.record_events()
    for delivery_id in notices.due():
        send_notice.delay(delivery_id)


@shared_task
def send_notice(delivery_id: int) -> None:
    notices.send(delivery_id)


@shared_task
def simulate_experts() -> None:
    """For the demo's button."""
    simulated.simulate(seed=int(time.time()))
