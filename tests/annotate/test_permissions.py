import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from annotate.permissions import admin_required, expert_of, expert_required, is_admin
from tests.factories import make_expert

pytestmark = pytest.mark.django_db


def make_user(**fields: object):
    return get_user_model().objects.create_user("somebody", **fields)


def ask(view, user: object) -> HttpResponse:
    request = RequestFactory().get("/")
    request.user = user
    return view(request)


@expert_required
def experts_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.expert))


@admin_required
def admins_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("rounds")


@pytest.mark.parametrize(
    ("fields", "admin"),
    [({}, False), ({"is_staff": True}, True), ({"is_staff": True, "is_active": False}, False)],
    ids=["nobody", "staff", "staff who left"],
)
def test_admins_are_active_staff(fields: dict[str, bool], admin: bool) -> None:
    assert is_admin(make_user(**fields)) is admin


def test_who_is_not_logged_in_is_no_admin() -> None:
    assert is_admin(AnonymousUser()) is False


def test_an_expert_is_found_by_their_account() -> None:
    expert = make_expert()
    make_expert()
    assert expert_of(expert.user) == expert


def test_a_simulated_experts_account_judges_nothing() -> None:
    assert expert_of(make_expert(simulated=True).user) is None


@pytest.mark.parametrize("user", [AnonymousUser, lambda: make_user(is_staff=True)], ids=["anonymous", "admin"])
def test_who_has_no_expert_is_none(user) -> None:
    make_expert()
    assert expert_of(user()) is None


def test_an_experts_page_knows_its_expert() -> None:
    expert = make_expert()
    assert ask(experts_page, expert.user).content.decode() == str(expert)


@pytest.mark.parametrize("user", [AnonymousUser, lambda: make_user(is_staff=True)], ids=["anonymous", "admin"])
def test_an_experts_page_is_closed_to_others(user) -> None:
    with pytest.raises(PermissionDenied):
        ask(experts_page, user())


def test_an_admins_page_is_open_to_admins() -> None:
    assert ask(admins_page, make_user(is_staff=True)).content == b"rounds"


@pytest.mark.parametrize("user", [AnonymousUser, lambda: make_expert().user], ids=["anonymous", "expert"])
def test_an_admins_page_is_closed_to_others(user) -> None:
    with pytest.raises(PermissionDenied):
        ask(admins_page, user())
