"""Who is logged in."""

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User


class AccountBackend(ModelBackend):
    """As Django's, but a person comes with their expert: every page asks for both, and one query is enough."""

    def get_user(self, user_id: int) -> User | None:
        user = get_user_model().objects.select_related("expert").filter(pk=user_id).first()
        return user if user and self.user_can_authenticate(user) else None
