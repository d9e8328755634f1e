import shutil
import signal
import socket
import time
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import services, setup
from config.logins import demo_logins
from generation.engines.faults import is_disk_full
from generation.engines.values import EngineError

NEEDED_BYTES = 500 * 2**20


class Command(BaseCommand):
    help = "Run the whole of Storyloop on this machine, with a writer of its own. Ctrl-C stops everything."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of this machine alone")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        # SIGINT, too: a shell that starts us in the background has it ignored
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        try:
            self._check_machine(port)
            setup.prepare(self._say)
            call_command("collectstatic", interactive=False, verbosity=0)
            self._serve(port, demo_logins())
        except (setup.SetupFailed, services.ServiceDied, EngineError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise CommandError(f"A disk is full ({error}). Free some space, and run the same command again.") from error
        except KeyboardInterrupt:
            self._say("Stopped. Everything is kept; the same command goes on with it.")

    def _serve(self, port: int, logins: dict[str, str]) -> None:
        url = f"http://127.0.0.1:{port}/"
        commands = {
            "web": services.web_command(port),
            "worker": services.worker_command(),
            "beat": services.beat_command(),
        }
        with services.running(commands) as started:
            services.wait_for_web(url + "log-in/", started)
            self._say(self._welcome(url, logins))
            while True:
                services.check_alive(started)
                time.sleep(1)

    def _check_machine(self, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} is in use ({error.strerror}). Stop what uses it, or choose another: "
                    "--port 8001 (make demo PORT=8001)"
                ) from error
        free = shutil.disk_usage(settings.VAR_DIR).free
        if free < NEEDED_BYTES:
            raise CommandError(
                f"Only {free // 2**20} MB are free in {settings.VAR_DIR}; {NEEDED_BYTES // 2**20} MB are needed. "
                "Free some, or name another folder with STORYLOOP_VAR."
            )

    def _welcome(self, url: str, logins: dict[str, str]) -> str:
        lines = [f"  {name:9} {password}" for name, password in logins.items()]
        return "\n".join(
            [
                "",
                f"Storyloop is running: {url}",
                "",
                "Log in as one of these (name, password):",
                *lines,
                "",
                "What to click:",
                "  1. As educator, parent or writer: practise on six examples, then rank some stories (keys 1-4",
                "     best, a-d worst, Enter; ? lists the others).",
                "  2. As admin: “Let simulated experts judge what is open”, for the judgements that you don't want",
                "     to give yourself. Then launch a round with “Simulated experts count”. It takes about a minute.",
                "  3. Judge the new policy blind against the old (or let the simulated experts), look at the",
                "     win rate on the round's page, and promote it. The next round begins with it.",
                "",
                "Ctrl-C stops everything.",
            ]
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
