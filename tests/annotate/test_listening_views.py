"""The pages of a listening session, without a script."""

import csv
import re

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.comparisons import open_evaluation_comparisons
from annotate.listening_sessions import CONSENT_VERSION, record_choice
from annotate.models import Comparison, Expert, Listening, ListeningSession
from generation.models import Prompt, Story
from tests.annotate.browsing import UUID, html
from tests.annotate.hearing import begin, choose
from tests.annotate.test_blind import SECRETS
from tests.factories import make_evaluation, make_expert, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db
PAGES = ("hear_first", "hear_second", "this_or_that", "listening_notes")


@pytest.fixture
def pair(expert: Expert) -> Listening:
    """What `expert` hears with a child, or heard: its first pair."""
    return begin(adult=expert.user)


def page(client: Client, name: str, listening: Listening) -> HttpResponse:
    return client.get(reverse(name, args=[listening.key]))


def form_of(response: HttpResponse) -> dict[str, str]:
    """What the page's own form would send as it stands."""
    hidden = re.findall(r'<input type="hidden" name="(?!csrf|next)(\w+)" value="([^"]*)"', html(response))
    radios = re.findall(r'<input type="radio" name="(\w+)" value="([^"]*)"[^>]* checked', html(response))
    return dict(hidden + radios)


def send(client: Client, name: str, listening: Listening, shown: HttpResponse | None = None, **data: object):
    return client.post(reverse(name, args=[listening.key]), {**(form_of(shown) if shown else {"version": "0"}), **data})


def start(client: Client, **data: object) -> HttpResponse:
    shown = form_of(client.get(reverse("listen")))
    return client.post(reverse("start_listening"), {**shown, "age_band": "5-6", "consent": "on", **data})


def test_a_whole_session(judging: Client, expert: Expert) -> None:
    make_evaluation(make_policy(), make_policy())
    response = judging.get(start(judging)["Location"])
    for name in ("hear_second", "this_or_that"):
        pair = Listening.objects.get()
        address = reverse(name, args=[pair.key])
        assert address in html(response)
        response = judging.get(address)
    answered = judging.post(reverse("save_choice", args=[pair.key]), {**form_of(response), "answer": "2"}, follow=True)
    notes = {"engagement_first": "2", "engagement_second": "5", "understood_who": "yes"}
    saved = send(judging, "save_listening_notes", pair, answered, **notes)
    assert "1 pair of stories was answered" in html(judging.get(saved["Location"]))
    assert "no more stories" in html(judging.post(reverse("next_pair", args=[pair.session.key]), follow=True))
    ended = judging.post(reverse("end_listening", args=[pair.session.key]), follow=True)
    assert "Thank you, both of you!" in html(ended)
    pair.refresh_from_db()
    kept = (pair.choice, pair.engagement_first, pair.engagement_second, pair.understood_who, pair.understood_end)
    assert kept == (pair.second, 2, 5, "yes", "")
    session = ListeningSession.objects.get()
    assert (session.adult, session.consent_version, bool(session.ended_at)) == (expert.user, CONSENT_VERSION, True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"consent": ""}, "Without your consent no session can begin"),
        ({"consent_version": "2001-01"}, "The text has changed since you opened this page"),
        ({"age_band": ""}, "Choose one of these"),
        ({"language": "zh"}, "no more stories to compare in this language"),
    ],
)
def test_no_session_begins_without_consent_or_stories(judging: Client, data: dict[str, str], said: str) -> None:
    make_evaluation(make_policy(), make_policy())
    response = start(judging, read_by="browser", **data)
    assert (response.status_code, said in html(response)) == (422, True)
    assert form_of(response)["read_by"] == "browser"  # what was entered is still there
    assert form_of(response)["consent_version"] == CONSENT_VERSION
    assert not ListeningSession.objects.exists()


def test_a_text_that_has_changed_is_to_be_agreed_to_again(judging: Client) -> None:
    make_evaluation(make_policy(), make_policy())
    response = start(judging, consent_version="2001-01")
    assert not re.search(r'name="consent"[^>]* checked', html(response))


def test_an_interrupted_session_goes_on_where_it_stood(judging: Client, pair: Listening) -> None:
    shown = html(judging.get(reverse("listen")))
    assert reverse("listening_session", args=[pair.session.key]) in shown
    go_on = reverse("next_pair", args=[pair.session.key])
    assert judging.post(go_on)["Location"] == reverse("hear_first", args=[pair.key])
    send(judging, "save_choice", pair, answer="same")
    assert judging.post(go_on)["Location"] == reverse("listening_notes", args=[pair.key])


@pytest.mark.parametrize(("left", "first"), [(True, True), (False, False)])
def test_the_pictures_stand_as_they_were_drawn(judging: Client, pair: Listening, left: bool, first: bool) -> None:
    Listening.objects.filter(pk=pair.pk).update(first_on_left=left)
    shown = re.findall(r'name="answer" value="(\d)"', html(page(judging, "this_or_that", pair)))
    assert shown == (["1", "2"] if first else ["2", "1"])
    assert judging.get(reverse("hear_first", args=[pair.key])).context["picture"]["code"] == pair.first_picture


def test_a_child_who_stops_loses_nothing(judging: Client, pair: Listening) -> None:
    stopped = send(judging, "save_choice", pair, page(judging, "hear_first", pair), answer="stopped")
    notes = judging.get(stopped["Location"])
    send(judging, "save_listening_notes", pair, notes, engagement_first="3")
    pair.refresh_from_db()
    assert (pair.outcome, pair.engagement_first) == ("stopped", 3)


def test_two_clicks_are_one_answer_and_another_tab_asks_first(judging: Client, pair: Listening) -> None:
    tabs = [page(judging, "this_or_that", pair) for _ in range(2)]
    for _ in range(2):
        assert send(judging, "save_choice", pair, tabs[0], answer="1").status_code == 302
    conflict = send(judging, "save_choice", pair, tabs[1], answer="2")
    assert (conflict.status_code, "Another page has kept an answer" in html(conflict)) == (409, True)
    pair.refresh_from_db()
    assert pair.choice == pair.first
    send(judging, "save_choice", pair, conflict, answer="2")
    pair.refresh_from_db()
    assert pair.choice == pair.second


def test_notes_from_another_tab_are_shown_again_and_kept_when_saved_again(judging: Client, pair: Listening) -> None:
    send(judging, "save_choice", pair, answer="same")
    tabs = [page(judging, "listening_notes", pair) for _ in range(2)]
    send(judging, "save_listening_notes", pair, tabs[0], engagement_first="1")
    conflict = send(judging, "save_listening_notes", pair, tabs[1], engagement_first="4")
    assert (conflict.status_code, form_of(conflict)["engagement_first"]) == (409, "4")
    send(judging, "save_listening_notes", pair, conflict)
    assert Listening.objects.get().engagement_first == 4


@pytest.mark.parametrize(
    ("name", "data"), [("save_choice", {"answer": "3"}), ("save_listening_notes", {"engagement_first": "9"})]
)
def test_what_no_page_sends_is_refused_and_said(
    judging: Client, pair: Listening, name: str, data: dict[str, str]
) -> None:
    record_choice(listening=pair, outcome="same", version=0)
    response = send(judging, name, pair, **data)
    assert (response.status_code, 'role="alert"' in html(response)) == (422, True)


def test_notes_wait_for_the_answer(judging: Client, pair: Listening) -> None:
    choosing = reverse("this_or_that", args=[pair.key])
    assert page(judging, "listening_notes", pair)["Location"] == choosing
    assert send(judging, "save_listening_notes", pair)["Location"] == choosing


@pytest.mark.parametrize("name", PAGES[:3])
def test_a_story_that_was_withdrawn_is_read_to_nobody(judging: Client, pair: Listening, name: str) -> None:
    Story.objects.filter(pk=pair.second_id).update(withdrawn_at=timezone.now())
    shown = html(page(judging, name, pair))
    assert "These stories are no longer there" in shown
    assert pair.first.text not in shown


def test_a_session_is_its_own_adults(judging: Client) -> None:
    other = begin(adult=make_expert().user)
    addresses = [reverse(name, args=[other.key]) for name in PAGES]
    addresses.append(reverse("listening_session", args=[other.session.key]))
    assert {judging.get(address).status_code for address in addresses} == {404}
    make_evaluation(make_policy(), make_policy())
    assert start(judging, key=other.session.key)["Location"] == reverse("listen")


def secret_pair(expert: Expert) -> Listening:
    """A pair whose every secret is a text that stands nowhere else."""
    new, old = make_policy("quagga-new"), make_policy("quagga-old")
    Prompt.objects.filter(pk=make_prompt("A fox, please.", split="evaluation").pk).update(id=990001)
    for policy, key in ((new, 990002), (old, 990003)):
        make_story(policy, Prompt.objects.get(pk=990001), text=f"Fox {policy.pk % 2}.", pk=key, **SECRETS)
    open_evaluation_comparisons(policy=new, baseline=old)
    return begin(Comparison.objects.get(), adult=expert.user)


def test_no_page_tells_who_wrote_which_story(judging: Client, expert: Expert) -> None:
    pair = secret_pair(expert)
    answered = send(judging, "save_choice", pair, answer="1")
    responses = [answered, judging.get(reverse("listening_session", args=[pair.session.key]))]
    responses += [page(judging, name, pair) for name in PAGES]
    sent = " ".join(html(response) + str(response.items()) for response in responses).lower()
    sent = re.sub("'[a-z-]+-policy'", "", sent)  # names of headers
    names = ["quagga", "preference", "evaluation", "baseline", "policy", "policies", "round", "seed", "sampl", "99000"]
    assert [word for word in [*names, *map(str, SECRETS.values())] if word in sent] == []
    assert set(re.findall(UUID, sent)) == {str(pair.key), str(pair.session.key)}


def lines(client: Client) -> list[dict[str, str]]:
    content = b"".join(client.get(reverse("listenings_csv")).streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(content.splitlines()))


def test_admins_download_each_answered_pair_without_the_adults_name(admin_client: Client, expert: Expert) -> None:
    new, old = make_policy('=HYPERLINK("evil")'), make_policy()
    first = choose(begin(make_evaluation(new, old), adult=expert.user), new, engagement_first=4)
    begin(first.comparison)
    (line,) = lines(admin_client)
    assert (line["expert"], line["audience"], line["choice"]) == (str(expert.pk), "educator", "policy")
    assert (line["policy"], line["baseline"]) == ("'" + new.name, old.name)
    mine = "policy" if first.first.policy == new else "baseline"
    assert (line["heard_first"], line[f"engagement_{mine}"], line[f"picture_{mine}"]) == (
        mine,
        "4",
        first.first_picture,
    )
    assert expert.user.get_username() not in str(line)


def test_an_admin_without_an_expert_listens_too(admin_client: Client) -> None:
    make_evaluation(make_policy(), make_policy())
    assert 'href="/listen/"' in html(admin_client.get(reverse("listen")))
    start(admin_client)
    choose(Listening.objects.get(), None)
    assert (lines(admin_client)[0]["expert"], lines(admin_client)[0]["outcome"]) == ("", "same")
