from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.models import Audience
from config.invitations import link_of, make_invitation
from config.models import InvitedAs


class Command(BaseCommand):
    help = (
        "Print a link that makes one account: the way in for an installation's first admin, and for an admin who has "
        "lost everything else. It is the only time that the link is shown; revoke it under People "
        "(docs/accounts.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=InvitedAs.values, help="of the new account")
        parser.add_argument("--audience", choices=Audience.values, default="", help="of experts")
        parser.add_argument("--note", default="", help="for whom; only admins see it")
        parser.add_argument("--email", default="", help="the only address that may use it")
        parser.add_argument("--days", type=int, default=7, help="until it expires (default: %(default)s)")
        parser.add_argument(
            "--site", default="http://127.0.0.1:8000", help="begins the link, if STORYLOOP_URL does not"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["role"] != InvitedAs.ADMIN and not options["audience"]:
            raise CommandError(f"Say for whom they judge: --audience {' or '.join(Audience.values)}")
        if not 1 <= options["days"] <= 90:
            raise CommandError("--days must be 1 to 90.")
        wanted = {name: options[name] for name in ("role", "audience", "note", "email", "days")}
        _made, token = make_invitation(**wanted, by=None)
        self.stdout.write(link_of(token, site=options["site"].rstrip("/")))
        if not settings.SITE_URL:
            self.stderr.write("Set STORYLOOP_URL, or give --site: the link begins with where others reach the pages.")
