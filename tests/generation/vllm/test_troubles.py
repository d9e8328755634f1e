"""What goes wrong with real servers, done to them for real; and the faults of vLLM that we keep clear of."""

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.engines import processes
from generation.engines.server_process import ServerOptions, server_command, start_server, wait_for_server
from generation.engines.values import EngineError, Weights
from generation.engines.vllm_http import Server, ServerGone
from generation.engines.vllm_options import VllmOptions
from generation.engines.vllm_server import VllmServerEngine
from tests.generation.vllm.conftest import asked, free_port, ids, interrupted, written

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

MANY = [asked(key, tokens=120) for key in range(40)]


def group_of(pid: int) -> dict[int, str]:
    """{process id: command} of the processes in the session that `pid` leads."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        except (OSError, ValueError):
            continue
        if int(rest[3]) == pid and rest[0] != "Z":
            found[int(stat.parent.name)] = name
    return found


class Second:
    """A server that tests may kill; started, or started again, when one asks for it."""

    def __init__(self, options: VllmOptions, log: Path) -> None:
        self.chosen = ServerOptions(options, port=free_port(), finish_seconds=2)
        self.url = f"http://127.0.0.1:{self.chosen.port}"
        self.log = log
        self.has: Path | None = None

    def start(self, directory: Path) -> None:
        self.process = start_server(directory, self.chosen, log=self.log)
        self.has = directory

    def up(self, directory: Path) -> "Second":
        if self.has != directory:
            self.end()
            self.start(directory)
        wait_for_server(self.process, self.chosen, log=self.log, seconds=180)
        return self

    def end(self) -> None:
        if self.has:
            processes.stop(self.process, grace=0)
            self.has = None

    @property
    def core(self) -> int:
        """vLLM's engine process; the system keeps 15 characters of its name."""
        return next(pid for pid, name in group_of(self.process.pid).items() if "EngineCor" in name)


@pytest.fixture(scope="module")
def second(options, tmp_path_factory) -> Iterator[Second]:
    server = Second(options, tmp_path_factory.mktemp("second") / "second.log")
    yield server
    server.end()


def test_without_another_server_the_run_waits_for_this_one_to_come_back(writers, through, second):
    engine = through(Weights(writers.base), second.up(writers.base).url)
    quiet = ids(written(engine, MANY))

    def kill_and_start() -> None:
        second.end()
        second.start(writers.base)

    assert ids(interrupted(engine, MANY, kill_and_start)) == quiet


def test_a_server_that_comes_back_with_other_weights_is_not_used(writers, through, second):
    engine = through(Weights(writers.base), second.up(writers.base).url)

    def kill_and_start_another() -> None:
        second.end()
        second.start(writers.one_merged)

    with pytest.raises(EngineError, match="has the weights"):
        interrupted(engine, MANY, kill_and_start_another)


def test_without_any_server_the_run_ends_and_says_which_did_not_answer(writers, through, second):
    engine = through(Weights(writers.one_merged), second.up(writers.one_merged).url, patience=2.0)
    with pytest.raises(EngineError, match=f"No vLLM server .*{second.url}"):
        interrupted(engine, MANY, second.end)


def test_a_server_killed_in_mid_request_loses_no_story_when_there_is_another(writers, through, shared, second):
    quiet = ids(written(through(Weights(writers.base), shared), MANY))
    engine = through(Weights(writers.base), shared, second.up(writers.base).url)
    assert ids(interrupted(engine, MANY, lambda: os.kill(second.process.pid, signal.SIGKILL))) == quiet


def test_a_killed_server_leaves_its_engine_behind_until_the_whole_group_is_ended(writers, second):
    group = second.up(writers.base).process.pid if second.has is None else second.process.pid
    os.kill(group, signal.SIGKILL)
    time.sleep(1)
    assert any("EngineCor" in name for name in group_of(group).values())
    second.end()
    time.sleep(0.5)
    assert not group_of(group)


@pytest.fixture(scope="module")
def death(writers, shared, second, tmp_path_factory):
    """The engine process is killed while it writes: (stories without and with that, lines of a stream)."""
    engines = [
        VllmServerEngine(Weights(writers.base), urls, scratch=tmp_path_factory.mktemp("scratch"), patience=60)
        for urls in ([shared.url], [shared.url, second.up(writers.base).url])
    ]
    quiet, lines = ids(written(engines[0], MANY)), []
    base = next(card.name for card in Server(second.url).models() if card.parent is None)
    body = {"model": base, "prompt": [300, 301], "max_tokens": 1000, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(
        second.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )

    def listen() -> None:
        with urllib.request.urlopen(request, timeout=60) as stream:
            lines.append(str(stream.status))
            lines.extend(line.decode().strip() for line in stream)

    listener = threading.Thread(target=listen)

    def kill() -> None:
        listener.start()
        while not lines:
            time.sleep(0.01)
        os.kill(second.core, signal.SIGKILL)

    found = ids(interrupted(engines[1], MANY, kill))
    listener.join(timeout=60)
    for engine in engines:
        engine.close()
    return quiet, found, [line for line in lines if line]


def test_an_engine_process_killed_in_mid_request_loses_no_story(death):
    quiet, found, _ = death
    assert found == quiet


def test_vllms_stream_says_done_after_the_engine_has_died(death):
    """Why stories are not read from a stream: one that broke off would look like one that ended."""
    _, _, lines = death
    assert (lines[0], lines[-1]) == ("200", "data: [DONE]")
    assert '"error"' in lines[-2]


def test_a_seeded_story_on_a_prompt_cut_in_two_kills_vllm_on_a_cpu(writers, options, tmp_path, through):
    """Why chunked prefill is off there: the same server with it on dies of requests that ours writes."""
    requests = [asked(key, prompt="fox " * 300, tokens=8) for key in range(12)]
    chosen, log = ServerOptions(options, port=free_port()), tmp_path / "chunked.log"
    command, environment = server_command(writers.base, chosen)
    command[command.index("--no-enable-chunked-prefill")] = "--enable-chunked-prefill"
    command[command.index("--max-num-batched-tokens") + 1] = "256"
    process = processes.start(command, log=log, directory=tmp_path, environment=environment)
    try:
        wait_for_server(process, chosen, log=log)
        with pytest.raises(EngineError):
            written(through(Weights(writers.base), f"http://127.0.0.1:{chosen.port}", patience=1.0), requests)
        assert "CPU Generator does not use offset" in log.read_text()
    finally:
        processes.stop(process, grace=0)


def test_seeded_stories_on_long_prompts_are_written_by_ours(writers, through, shared):
    requests = [asked(key, prompt="fox " * 300, tokens=8) for key in range(12)]
    assert len(written(through(Weights(writers.base), shared), requests)) == 12


def test_vllm_gives_base_rows_an_adapter_when_both_are_in_one_batch(writers, through, shared):
    """Why the base is asked for through an adapter that changes nothing. If this fails, vLLM has mended it."""
    base = next(card.name for card in shared.server.models() if card.parent is None)
    engine = through(Weights(writers.base, writers.both), shared)
    for number in range(5):  # more than there are slots, so that the last one is taken
        shared.server.load_adapter(f"sha256-mixed-{number}", writers.both)
    greedy = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}
    alone = shared.server.complete(base, [300, 301], greedy).token_ids
    wrong = []

    def write_base() -> None:
        wrong.append(shared.server.complete(base, [300, 301], greedy).token_ids != alone)

    others = [
        threading.Thread(target=shared.server.complete, args=(f"sha256-mixed-{n}", [300 + n, 302], greedy))
        for n in range(5)
    ]
    threads = [*others, *[threading.Thread(target=write_base) for _ in range(4)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(5):
        shared.server.unload_adapter(f"sha256-mixed-{number}")
    assert any(wrong)
    assert ids(written(engine, MANY[:2]))


def test_a_server_that_never_answered_is_said_to_be_so(writers, through):
    with pytest.raises(EngineError, match="http://127.0.0.1:9 does not answer"):
        through(Weights(writers.base), "http://127.0.0.1:9", patience=1.0)


def test_hanging_up_ends_what_waits_for_an_answer(shared):
    base = next(card.name for card in shared.server.models() if card.parent is None)
    server, ended = Server(shared.url), []

    def ask() -> None:
        try:
            server.complete(base, [300], {"max_tokens": 1000, "ignore_eos": True})
        except ServerGone:
            ended.append(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    begin = time.monotonic()
    server.hang_up()
    thread.join(timeout=5)
    assert ended
    assert ended[0] - begin < 1.0
