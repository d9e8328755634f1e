"""The demo's logins: an admin, an educator, a parent, a writer, with passwords made at first start."""

import json
import secrets

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from annotate.models import Audience, Expert
from config.secret_files import kept_secret

ADMIN = "admin"


@transaction.atomic
def demo_logins() -> dict[str, str]:
    """{name: password}. Kept in a file that only its owner reads; the accounts are made if need be."""
    logins: dict[str, str] = json.loads(kept_secret(settings.VAR_DIR / "demo-logins.json", _new_logins))
    for name, password in logins.items():
        user, new = get_user_model().objects.get_or_create(username=name, defaults={"is_staff": name == ADMIN})
        if new:
            user.set_password(password)
            user.save(update_fields=["password"])
        if name != ADMIN:
            Expert.objects.get_or_create(user=user, defaults={"audience": name})
    return logins


def _new_logins() -> str:
    return json.dumps({name: f"{name}-{secrets.token_hex(4)}" for name in (ADMIN, *Audience.values)})
