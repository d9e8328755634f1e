"""How a server's answers are understood: a small HTTP server that says what a test wants. Real ones: vllm/."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from generation.engines.values import (
    Completion,
    EngineError,
    Request,
    SamplingParams,
    Weights,
    taking,
    weights_hash,
)
from generation.engines.vllm_fleet import Fleet
from generation.engines.vllm_http import Refused, Server, ServerGone
from generation.engines.vllm_server import VllmServerEngine


class Saying:
    """A server that answers each path with (status, body); what it was asked is kept."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.asked: list[tuple[str, str, dict]] = []
        saying = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                saying.asked.append((self.path, self.headers.get("Authorization", ""), body))
                answers = saying.answers.get(self.path, [(404, b'{"detail": "Not Found"}')])
                status, data = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, path: str, body: object, status: int = 200) -> None:
        """From now on; what was said before is said once, first."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.setdefault(path, []).append((status, data))

    def has(self, *names: str, adapters: tuple[str, ...] = (), length: int = 256) -> None:
        """Offers base models and adapters, as vLLM lists them."""
        cards = [{"id": name, "parent": None, "max_model_len": length} for name in names]
        self.says("/v1/models", {"data": [*cards, *({"id": name, "parent": names[0]} for name in adapters)]})

    def loaded(self) -> list[str]:
        return [body["lora_name"] for path, _, body in self.asked if path == "/v1/load_lora_adapter"]


@pytest.fixture
def saying() -> Iterator[Saying]:
    found = Saying()
    yield found
    found.server.shutdown()
    found.server.server_close()


def fleet(model: Path, saying: Saying, scratch: Path) -> Fleet:
    return Fleet(Weights(model), [saying.url], scratch=scratch, patience=0.5)


# --- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "max_tokens is too large"}},
        {"detail": "max_tokens is too large"},
        {"message": "max_tokens is too large"},
        b"max_tokens is too large",
    ],
)
def test_what_a_server_refuses_is_said_in_its_words(saying, body):
    saying.says("/v1/models", body, 400)
    with pytest.raises(Refused, match=r"refuses \(400\): max_tokens is too large"):
        Server(saying.url).models()


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_may_be_asked_again(saying, status):
    saying.says("/v1/models", {"error": {"message": "EngineCore encountered an issue"}}, status)
    with pytest.raises(ServerGone, match=f"answers {status}: EngineCore encountered an issue"):
        Server(saying.url).models()


def test_nobody_at_the_address_is_a_server_that_may_come_back():
    with pytest.raises(ServerGone, match="http://127.0.0.1:9 does not answer"):
        Server("http://127.0.0.1:9").models()


def test_an_answer_that_is_no_json_is_a_fault_in_words(saying):
    saying.says("/v1/models", b"<html>A proxy's page</html>")
    with pytest.raises(EngineError, match="not what a vLLM server says"):
        Server(saying.url).models()


def test_the_key_goes_with_every_request(saying):
    saying.has("sha256-1")
    Server(saying.url + "/", api_key="a secret").models()
    assert saying.asked[0][:2] == ("/v1/models", "Bearer a secret")


def test_a_server_without_development_routes_has_weights_that_stay(saying):
    assert Server(saying.url).weight_version() is None


def test_a_story_is_asked_for_by_token_ids(saying):
    choice = {"token_ids": [5, 6], "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.1, -0.2]}}
    saying.says("/v1/completions", {"model": "sha256-1", "choices": [choice]})
    answer = Server(saying.url).complete("sha256-1", [1, 2], {"seed": 3}, logps=True)
    assert (answer.model, answer.token_ids, answer.logps) == ("sha256-1", [5, 6], [-0.1, -0.2])
    body = saying.asked[0][2]
    assert (body["prompt"], body["seed"], body["return_token_ids"]) == ([1, 2], 3, True)


# --- stories -----------------------------------------------------------------------------------------------


def wrote(*token_ids: int, reason: str = "stop", model: str = "") -> dict:
    return {"model": model, "choices": [{"token_ids": token_ids, "finish_reason": reason}]}


@pytest.fixture
def written(saying, tiny_model, tmp_path):
    """Asks an engine over the server for a story of at most 8 tokens, and returns it."""
    name = f"sha256-{weights_hash(tiny_model)}"
    saying.has(name)
    saying.says("/version", {"version": "0.32.0"})

    def write(*answers: tuple[dict, int]) -> Completion:
        for body, status in answers:
            saying.says("/v1/completions", {**body, "model": name} if status == 200 else body, status)
        engine = VllmServerEngine(Weights(tiny_model), [saying.url], scratch=tmp_path, patience=20)
        try:
            (story,) = engine.write(taking([Request(0, "A fox.", SamplingParams(1.0, 1.0, 0.0, 1, 8))]))
        finally:
            engine.close()
        return story

    return write


END = 0  # the tiny model's


def test_the_end_token_is_no_part_of_the_story(written):
    story = written((wrote(40, 41, END), 200))
    assert (story.token_ids, story.finish_reason) == ((40, 41), "stop")


def test_a_story_that_reaches_its_limit_is_cut_off(written):
    assert written((wrote(*range(40, 48), reason="length"), 200)).finish_reason == "length"


def test_a_story_that_a_server_broke_off_is_asked_for_again(written):
    """A server that is paused or told to end answers 200 with what it has."""
    story = written((wrote(40, reason="abort"), 200), (wrote(40, 41, END), 200))
    assert story.token_ids == (40, 41)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_now_is_asked_again_later(written, status):
    assert written(({"detail": "later"}, status), (wrote(40, END), 200)).token_ids == (40,)


def test_what_a_server_refuses_for_good_ends_the_writing(written):
    with pytest.raises(EngineError, match="min_p is not a number"):
        written(({"detail": "min_p is not a number"}, 400))


# --- weights -----------------------------------------------------------------------------------------------


def test_a_server_that_does_not_say_its_weights_is_told_how_to(saying, tiny_model, tmp_path):
    saying.has("meta-llama/Llama-3")
    with pytest.raises(EngineError, match=f"--served-model-name sha256-{weights_hash(tiny_model)}"):
        fleet(tiny_model, saying, tmp_path).wait_for_one()


def test_a_server_with_other_weights_is_not_used(saying, tiny_model, tmp_path):
    saying.has(f"sha256-{'a' * 64}")
    with pytest.raises(EngineError, match="has the weights aaaaaaaaaaaa"):
        fleet(tiny_model, saying, tmp_path).wait_for_one()


def test_a_server_that_takes_no_adapters_is_asked_for_the_base_itself(saying, tiny_model, tmp_path):
    name = f"sha256-{weights_hash(tiny_model)}"
    saying.has(name)
    assert fleet(tiny_model, saying, tmp_path).wait_for_one().model == name


def test_on_a_cpu_the_base_is_asked_for_through_an_adapter_that_changes_nothing(saying, tiny_model, tmp_path):
    saying.has(f"sha256-{weights_hash(tiny_model)}")
    saying.says("/v1/load_lora_adapter", b"Success")
    found = fleet(tiny_model, saying, tmp_path).wait_for_one().model
    assert saying.loaded() == [found] == [f"unchanged-{weights_hash(tiny_model)}"]


def test_a_server_with_a_gpu_is_asked_for_the_base_itself(saying, tiny_model, tmp_path):
    name = f"sha256-{weights_hash(tiny_model)}"
    saying.has(name, "storyloop-gpu")
    saying.says("/v1/load_lora_adapter", b"Success")
    assert fleet(tiny_model, saying, tmp_path).wait_for_one().model == name
    assert saying.loaded() == []


def test_the_shortest_limit_of_all_servers_holds(saying, tiny_model, tmp_path):
    saying.has(f"sha256-{weights_hash(tiny_model)}", length=100)
    found = fleet(tiny_model, saying, tmp_path)
    found.wait_for_one()
    assert found.limit() == 100


def test_files_that_changed_since_the_policy_was_registered_are_not_loaded(saying, tiny_model, tmp_path):
    saying.has(f"sha256-{'a' * 64}")
    saying.says("/weight_info", {"weight_version": "default"})
    found = Fleet(Weights(tiny_model, None, "b" * 64), [saying.url], scratch=tmp_path, patience=0.5)
    with pytest.raises(EngineError, match="have changed since the policy was registered"):
        found.wait_for_one()
    assert not any(path == "/collective_rpc" for path, _, _ in saying.asked)


def test_no_url_is_a_fault_that_says_which_setting(tiny_model, tmp_path):
    with pytest.raises(EngineError, match="STORYLOOP_VLLM_URLS"):
        Fleet(Weights(tiny_model), [], scratch=tmp_path)
