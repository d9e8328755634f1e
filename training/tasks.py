"""Thin tasks: ids in, one call, state out. A task delivered twice finds the round taken and leaves."""

import time

from celery import shared_task

from annotate import simulated
from training import notices, promotion, rounds, schedule
from training.run import work_on


@shared_task
def run_round(round_id: int) -> None:
    lease = rounds.take_round(round_id)
    if lease:
        work_on(lease)


@shared_task
def sweep_rounds() -> None:
    """Put back what a dead worker or a lost message left behind."""
    for round_id in schedule.rounds_to_send():
        run_round.delay(round_id)


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
