from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.tokens import CannotMakeToken, make_token
from generation.permissions import is_admin


class Command(BaseCommand):
    help = (
        "Make a token of the API for USER and print it: it is the only time that it is shown. The token may do what "
        "the user may do; revoke it under Account, API tokens (docs/api.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the account's name")
        parser.add_argument("--name", default="command line", help="what will use it (default: %(default)s)")
        parser.add_argument("--days", type=int, default=90, help="until it expires; 0: never (default: %(default)s)")

    def handle(self, *args: Any, user: str, name: str, days: int, **options: Any) -> None:
        found = get_user_model().objects.filter(username=user, is_active=True).first()
        if found is None:
            raise CommandError(f"There is no account {user!r} that may log in.")
        if not 0 <= days <= 3650:
            raise CommandError("--days must be 0 to 3650: 0 is for ever.")
        try:
            _made, token = make_token(user=found, name=name, days=days or None)
        except CannotMakeToken as error:
            raise CommandError(str(error)) from error
        self.stdout.write(token)
        if not is_admin(found):
            self.stderr.write(f"{user} is no admin: of the API, only /api/v1/me is open to this token.")
