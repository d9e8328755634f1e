"""The demo's logins: an admin, an educator, a parent, a writer, with passwords made at first start."""

import json
import secrets

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from annotate.models import Audience, Expert

ADMIN = "admin"


@transaction.atomic
def demo_logins() -> dict[str, str]:
    """{name: password}. Kept in a file that only its owner reads; the accounts are made if need be."""
    path = settings.VAR_DIR / "demo-logins.json"
    if not path.exists():
        path.touch(mode=0o600)
        names = (ADMIN, *Audience.values)
        path.write_text(json.dumps({name: f"{name}-{secrets.token_hex(4)}" for name in names}))
    logins: dict[str, str] = json.loads(path.read_text())
    for name, password in logins.items():
        user, new = get_user_model().objects.get_or_create(username=name, defaults={"is_staff": name == ADMIN})
        if new:
            user.set_password(password)
            user.save(update_fields=["password"])
        if name != ADMIN:
            Expert.objects.get_or_create(user=user, defaults={"audience": name})
    return logins
