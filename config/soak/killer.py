"""Ends one web worker after the other."""

import random
import threading

import psutil

from config.trials.house import House, family


class WebKiller(threading.Thread):
    """Signal 9 to one of the web server's workers every `each` seconds, `most` times.

    Above 6 seconds: granian ends with a worker that dies so soon after its start (and is started again as a whole).
    """

    def __init__(self, house: House, each: float, most: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.house, self.each, self.most = house, each, most
        self.chance = random.Random(seed)
        self.closing = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while self.kills < self.most and not self.closing.wait(self.each):
            workers = family(self.house.started["web"].pid)[1:]
            try:
                psutil.Process(self.chance.choice(workers)).kill()
                self.kills += 1
            except (psutil.NoSuchProcess, IndexError):
                continue  # the count says so
