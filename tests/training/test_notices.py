"""Messages about rounds: each is written down once, arrives signed, and goes to nobody inside our own network."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core import mail
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client

from tests.apart import apart
from tests.factories import make_policy
from tests.training.stories import judge_all, judged_round
from tests.training.test_models import make_round
from training import notices, webhooks
from training.ends import said
from training.models import Channel, Delivery, Destination, Event, PromotionRule, Proposal, Round, Sending, State
from training.tasks import send_notices

pytestmark = pytest.mark.django_db
SECRET = "a secret of sixteen"


class Receiver(HTTPServer):
    """A real receiver of webhooks; answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.got = 200, []
        self.asked, self.answers = threading.Event(), threading.Event()
        self.answers.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?from=us"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.asked.set()
        self.server.answers.wait(10)
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    settings.PRIVATE_WEBHOOKS = True  # 127.0.0.1 is one
    found = Receiver()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def boss(django_user_model) -> Any:
    return django_user_model.objects.create_user("boss", "boss@example.org", is_staff=True)


def webhook(url: str = "https://example.org/hook", **fields: Any) -> Destination:
    return Destination.objects.create(channel=Channel.WEBHOOK, url=url, secret=SECRET, **fields)


def failed_round(**fields: Any) -> Round:
    found = make_round(**fields)
    Round.objects.filter(pk=found.pk).update(state=State.FAILED, message="The disk is full.")
    return Round.objects.get(pk=found.pk)


def sweep() -> Delivery:
    """What the beat does, without a queue between; the only row there is then."""
    notices.record_events()
    for pk in notices.due():
        notices.send(pk)
    return Delivery.objects.get()


class TestWebhook:
    def test_it_gets_the_event_once_and_signed(self, receiver: Receiver) -> None:
        webhook(receiver.url)
        failed_round(number=3)
        sent = sweep()
        sweep()
        ((path, headers, body),) = receiver.got
        assert path == "/hook?from=us"
        expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Storyloop-Signature"] == f"sha256={expected}"
        told = json.loads(body)
        assert (told["id"], told["event"], told["text"]) == (sent.pk, "failed", "Round 3 is over: failed.")
        assert told["round"]["message"] == "The disk is full."
        assert told["round"]["url"] == "/rounds/3/"
        assert (sent.state, sent.status, sent.attempts) == (Sending.SENT, 200, 1)

    def test_a_receiver_that_is_ill_gets_it_again_later_and_once_it_is_well_no_more(self, receiver: Receiver) -> None:
        webhook(receiver.url)
        failed_round()
        receiver.status = 503
        waiting = sweep()
        assert (waiting.state, waiting.status, waiting.attempts) == (Sending.WAITING, 503, 1)
        assert waiting.message == "127.0.0.1 answers 503."
        sweep()
        assert len(receiver.got) == 1  # not before its time
        Delivery.objects.update(next_try_at=Now())
        receiver.status = 204
        assert sweep().state == Sending.SENT
        assert [headers["X-Storyloop-Delivery"] for _, headers, _ in receiver.got] == [str(waiting.pk)] * 2

    def test_addresses_that_do_not_answer_are_tried_only_so_long(self, monkeypatch) -> None:
        monkeypatch.setattr(webhooks, "ALTOGETHER", -1.0)
        monkeypatch.setattr(webhooks, "addresses", lambda *args, **kwargs: ["192.0.2.1", "192.0.2.2"])
        with pytest.raises(webhooks.NotSent, match="none of its addresses"):
            webhooks.post("http://example.org/hook", b"{}", {}, private=True)

    def test_after_six_tries_it_is_given_up(self, receiver: Receiver) -> None:
        webhook(receiver.url)
        failed_round()
        receiver.status = 500
        for _ in range(8):
            sweep()
            Delivery.objects.update(next_try_at=Now())
        found = Delivery.objects.get()
        assert (found.state, found.attempts, len(receiver.got)) == (Sending.FAILED, 6, 6)

    def test_a_redirect_is_not_followed(self, receiver: Receiver) -> None:
        webhook(receiver.url)
        failed_round()
        receiver.status = 307
        assert "Redirects are not followed" in sweep().message
        assert len(receiver.got) == 1

    def test_one_that_sends_its_answer_a_byte_at_a_time_is_hung_up_on(self, receiver: Receiver, monkeypatch) -> None:
        monkeypatch.setattr(webhooks, "ALTOGETHER", 0.3)
        receiver.answers.clear()  # it has asked for nothing, and will not for ten seconds
        with pytest.raises(webhooks.NotSent, match=r"does not answer: no whole answer after 0\.3 s"):
            webhooks.post(receiver.url, b"{}", {}, private=True)
        receiver.answers.set()

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"]
    )
    def test_a_host_inside_our_own_network_gets_nothing(self, receiver: Receiver, settings, host: str) -> None:
        settings.PRIVATE_WEBHOOKS = False
        webhook(f"http://{host}:{receiver.server_port}/")
        failed_round()
        assert "STORYLOOP_PRIVATE_WEBHOOKS" in sweep().message
        assert receiver.got == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("10.1.2.3", False),
        ("100.64.0.1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("224.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("::", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert webhooks.is_public(address) is public


class TestEvents:
    def test_what_was_over_before_anybody_asked_is_not_told(self) -> None:
        failed_round()
        Destination.objects.create(
            channel=Channel.WEBHOOK, url="https://example.org", secret=SECRET, since=Now() + timedelta(seconds=1)
        )
        notices.record_events()
        assert not Delivery.objects.exists()

    def test_a_round_that_fails_again_is_told_again(self) -> None:
        webhook()
        found = failed_round()
        notices.record_events()
        Round.objects.filter(pk=found.pk).update(state=State.TRAINING)
        Round.objects.update(state_since=Now() - timedelta(minutes=1))
        Round.objects.filter(pk=found.pk).update(state=State.FAILED)
        Round.objects.update(state_since=Now() + timedelta(minutes=1))  # a test is one transaction: its clock stands
        notices.record_events()
        assert Delivery.objects.filter(event=Event.FAILED).count() == 2

    def test_a_round_waits_first_for_judgements_and_then_for_the_admin(self) -> None:
        webhook()
        shown = judged_round(prompts=1)
        notices.record_events()
        assert [one.event for one in Delivery.objects.all()] == [Event.JUDGING]
        judge_all(shown)
        notices.record_events()
        assert {one.event for one in Delivery.objects.all()} == {Event.JUDGING, Event.DECISION}

    def test_what_the_rule_will_decide_waits_for_nobody(self) -> None:
        PromotionRule.objects.create(automatic=True)
        webhook(events=[Event.DECISION])
        judge_all(judged_round(prompts=1))
        notices.record_events()
        assert not Delivery.objects.exists()


failures: list[Exception] = []


def in_threads(act: Callable[[], None], count: int) -> list[threading.Thread]:
    def alone() -> None:
        try:
            act()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    failures.clear()
    threads = [threading.Thread(target=alone) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads

    def test_a_proposal_is_told_once_and_one_that_is_void_is_not(self, receiver: Receiver) -> None:
        webhook(receiver.url)
        policy = make_policy(current=True)
        proposal = Proposal.objects.create(policy=policy, round_settings={}, pairs=233)
        assert sweep().state == Sending.SENT
        sweep()
        ((_path, _headers, body),) = receiver.got
        told = json.loads(body)
        assert (told["event"], told["text"]) == ("proposed", "A round is proposed: 233 new pairs.")
        assert told["proposal"]["pairs"] == 233
        Delivery.objects.all().delete()
        Proposal.objects.filter(pk=proposal.pk).close()
        notices.record_events()
        assert not Delivery.objects.exists()

    return None


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_write_it_down_once() -> None:
    webhook()
    failed_round()
    with transaction.atomic():
        notices.record_events()
        (other,) = in_threads(notices.record_events, 1)  # it cannot see our row yet, and waits for it
        time.sleep(0.5)
    other.join()
    assert failures == []
    assert Delivery.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_message_that_is_in_the_queue_three_times_is_sent_once(receiver: Receiver) -> None:
    webhook(receiver.url)
    failed_round()
    notices.record_events()
    (pk,) = notices.due()
    for thread in in_threads(lambda: notices.send(pk), 3):
        thread.join()
    assert failures == []
    assert (Delivery.objects.get().attempts, len(receiver.got)) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_while_it_sends_leaves_its_row_to_the_next(receiver: Receiver) -> None:
    webhook(receiver.url)
    failed_round()
    notices.record_events()
    (pk,) = notices.due()
    receiver.answers.clear()
    worker = apart(f"from training import notices; notices.send({pk})", STORYLOOP_PRIVATE_WEBHOOKS="true")
    assert receiver.asked.wait(30)
    worker.kill()
    worker.communicate()
    receiver.answers.set()
    left = Delivery.objects.get()
    assert (left.state, left.attempts, notices.due()) == (Sending.WAITING, 1, [])  # nobody else, for two minutes
    Delivery.objects.update(next_try_at=Now())
    assert sweep().state == Sending.SENT
    assert [headers["X-Storyloop-Delivery"] for _, headers, _ in receiver.got] == [str(pk)] * 2


class TestMail:
    @pytest.fixture(autouse=True)
    def _server(self, settings) -> None:
        settings.MAIL_SERVER = True
        settings.SITE_URL = "https://stories.example.org"

    def test_an_admin_gets_it_in_their_language_with_the_link(self, boss) -> None:
        Destination.objects.create(channel=Channel.EMAIL, user=boss, language="en")
        failed_round(number=2)
        assert sweep().state == Sending.SENT
        (sent,) = mail.outbox
        assert (sent.to, sent.subject) == (["boss@example.org"], "Storyloop: Round 2 is over: failed.")
        assert "The disk is full." in sent.body
        assert "https://stories.example.org/rounds/2/" in sent.body

    def test_what_is_said_of_the_round_is_in_their_language_too(self, boss) -> None:
        Destination.objects.create(channel=Channel.EMAIL, user=boss, language="zh-hans")
        found = failed_round(number=2)
        Round.objects.filter(pk=found.pk).update(message=said("killed"))
        assert sweep().state == Sending.SENT
        assert "信号 9" in mail.outbox[0].body
        assert "signal 9" not in mail.outbox[0].body

    def test_who_is_no_admin_any_more_gets_nothing(self, boss) -> None:
        Destination.objects.create(channel=Channel.EMAIL, user=boss)
        boss.is_staff = False
        boss.save()
        failed_round()
        assert "no admin's any more" in sweep().message
        assert mail.outbox == []

    def test_without_a_server_it_says_which_setting_to_make(self, boss, settings) -> None:
        settings.MAIL_SERVER = False
        Destination.objects.create(channel=Channel.EMAIL, user=boss)
        failed_round()
        assert "STORYLOOP_EMAIL_URL" in sweep().message


class TestPage:
    @pytest.fixture
    def admin(self, client: Client, boss) -> Client:
        client.force_login(boss)
        return client

    def test_an_admin_chooses_what_to_be_told(self, admin: Client, boss) -> None:
        admin.post("/rounds/notices/address/", {"email": "new@example.org", "events": ["failed"]})
        boss.refresh_from_db()
        assert (boss.email, Destination.objects.get(user=boss).events) == ("new@example.org", ["failed"])

    def test_a_webhook_is_added_with_a_secret_of_its_own(self, admin: Client) -> None:
        admin.post("/rounds/notices/webhooks/", {"url": "https://example.org/hook", "events": ["failed", "ended"]})
        found = Destination.objects.get()
        assert len(found.secret) > 40
        assert found.secret in admin.get("/rounds/notices/").content.decode()

    @pytest.mark.parametrize(
        "url",
        ["ftp://example.org", "file:///etc/passwd", "http://127.0.0.1/", "http://localhost:8000/", "https://a:b@c/"],
    )
    def test_an_address_that_cannot_be_meant_is_refused_and_kept_in_the_form(self, admin: Client, url: str) -> None:
        response = admin.post("/rounds/notices/webhooks/", {"url": url, "events": ["failed"]})
        assert response.status_code == 422
        assert f'value="{url}"' in response.content.decode()
        assert not Destination.objects.exists()

    def test_a_test_is_sent_and_its_end_is_shown(
        self, admin: Client, receiver: Receiver, monkeypatch, django_capture_on_commit_callbacks
    ) -> None:
        from training.tasks import send_notice

        monkeypatch.setattr(send_notice, "delay", notices.send)
        found = webhook(receiver.url)
        with django_capture_on_commit_callbacks(execute=True):
            page = admin.post(f"/rounds/notices/{found.pk}/test/", follow=True).content.decode()
        assert json.loads(receiver.got[0][2])["text"] == "This is a test: messages arrive."
        assert "a test" in page


def test_the_beats_task_sends_what_is_due(receiver: Receiver, monkeypatch) -> None:
    from training.tasks import send_notice

    monkeypatch.setattr(send_notice, "delay", notices.send)
    webhook(receiver.url)
    failed_round(policy=make_policy())
    send_notices()
    assert Delivery.objects.get().state == Sending.SENT
