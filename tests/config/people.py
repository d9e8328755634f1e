"""People for tests of accounts."""

from django.contrib.auth.models import User
from django.test import Client

from config.invitations import make_invitation
from tests.config.api import make_admin

PASSWORD = "seven small foxes"  # noqa: S105


def make_person(name: str = "anna", **fields: object) -> User:
    return User.objects.create_user(name, password=PASSWORD, **fields)


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def log_in(name: str = "anna", password: str = PASSWORD, client: Client | None = None, **more: str):
    """(client, response) of the log-in page."""
    client = client or Client()
    return client, client.post("/log-in/", {"username": name, "password": password, **more})


def invited(**fields: object) -> str:
    """The token of an invitation."""
    values = {"role": "expert", "audience": "parent", "days": 7, "by": None, **fields}
    return make_invitation(**values)[1]


__all__ = ["PASSWORD", "invited", "log_in", "logged_in", "make_admin", "make_person"]
