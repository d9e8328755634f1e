"""What people and models write is text on every page: stories, prompts, reasons, names."""

from html.parser import HTMLParser

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Judgement
from annotate.queue import next_assignment
from tests.annotate.browsing import open_tab, submit
from tests.config.test_access import RULES, address, patterns
from tests.factories import make_comparison, make_expert, make_policy, make_prompt, make_run, make_story
from tests.training.test_models import make_round

pytestmark = pytest.mark.django_db
MARK = "mark9f2c"
EVIL = f"\"'></textarea></title></script><script>{MARK}()</script><img src=x onerror={MARK}()>{{{{ {MARK} }}}}"


class Elements(HTMLParser):
    """Notes what an escape that is missing would make: a script with words of its own, an attribute that acts."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.in_script = tag == "script"
        self.bad += [f"<{tag} {name}>" for name, _value in attrs if name.startswith("on") or name == "style"]
        if (tag, ("src", "x")) in [(tag, one) for one in attrs if tag == "img"]:
            self.bad.append("<img src=x>")

    def handle_data(self, data: str) -> None:
        if self.in_script and data.strip():
            self.bad.append(f"<script>{data[:40]}")

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False


def bad_in(page: str) -> list[str]:
    found = Elements()
    found.feed(page)
    return found.bad


def test_the_parser_sees_what_is_not_escaped() -> None:
    assert bad_in(f"<p>{EVIL}</p>")
    assert bad_in(f'<p title="{EVIL}">x</p>')
    assert bad_in("<p>&lt;script&gt;</p><script src='/a.js'></script>") == []


@pytest.fixture
def places() -> dict[str, dict]:
    """An installation full of evil names and texts; {beginning of an address: what stands in it}."""
    base, expert = make_policy(f"base {EVIL}"[:80], current=True), make_expert()
    expert.user.first_name, expert.user.is_staff = EVIL[:30], True
    expert.user.username = f"expert {EVIL}"[:150]
    expert.user.save()
    prompt = make_prompt(f"A prompt {EVIL}")
    for index in range(3):
        make_story(base, prompt, index, text=f"A story {index} {EVIL}")
    result = make_policy(f"result {EVIL}"[:80], parent=base)
    make_round(policy=base, result=result, state="judging", message=EVIL)
    make_comparison(2, policy=base)
    client = Client()
    client.force_login(expert.user)
    assignment = next_assignment(expert=expert)
    submit(client, assignment, best=1, worst=2, reason=EVIL, **open_tab(client, assignment))
    assert Judgement.objects.get().reason.startswith(EVIL[:20])
    run = make_run(base, state="failed", message=EVIL)
    following = next_assignment(expert=expert)
    return {
        "client": client,
        "rounds/": {"number": 1, "table": "win-rates"},
        "policies/": {"number": base.pk},
        "writing/": {"number": run.pk},
        "judge/": {"key": following.key if following else assignment.key},
    }


def test_no_page_makes_markup_of_it(places: dict) -> None:
    client, shown = places.pop("client"), []
    for name in RULES:
        answer = client.get(address_in(places, name))
        if answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html"):
            page = answer.content.decode()
            assert bad_in(page) == [], name
            shown += [name] if MARK in page else []
    assert {"judge_comparison", "my_judgements", "show_round", "policies", "show_policy", "judging"} <= set(shown), (
        shown
    )


def address_in(places: dict, name: str) -> str:
    """Of the page, with ids that there are."""
    rough = address(name)
    wanted = getattr(next(pattern for pattern in patterns() if pattern.name == name).pattern, "converters", {})
    given = next((given for begin, given in places.items() if rough.startswith(f"/{begin}")), {})
    return reverse(name, kwargs={k: given[k] for k in wanted}) if wanted and set(wanted) <= set(given) else rough
