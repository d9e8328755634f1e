from allauth.account import views as allauth_views
from django.urls import include, path, register_converter

from config import views_accounts, views_tokens


class Base36:
    """A user's number as allauth writes it: what follows may have a hyphen, too."""

    regex = "[0-9A-Za-z]+"
    to_python = to_url = str


register_converter(Base36, "base36")

# mounted at /account/; the names account_* and mfa_* are those by which allauth finds its pages
urlpatterns = [
    path("", views_accounts.account, name="account"),
    path("name/", views_accounts.save_name, name="save_name"),
    path("data/", views_accounts.my_data, name="my_data"),
    path("leave/", views_accounts.leave_for_good, name="leave_for_good"),
    path("email/", views_accounts.account_email, name="account_email"),
    path("email/confirm/<str:key>/", allauth_views.confirm_email, name="account_confirm_email"),
    path("password/", allauth_views.password_change, name="account_change_password"),
    path("password/forgotten/", views_accounts.account_reset_password, name="account_reset_password"),
    path("password/forgotten/sent/", allauth_views.password_reset_done, name="account_reset_password_done"),
    path(
        "password/reset/<base36:uidb36>-<str:key>/",
        allauth_views.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "password/reset/done/",
        allauth_views.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    path("log-in/", views_accounts.account_login, name="account_login"),
    path("password/set/", views_accounts.account_set_password, name="account_set_password"),
    path("sign-up/", views_accounts.account_signup, name="account_signup"),
    path("confirm-it-is-you/", allauth_views.reauthenticate, name="account_reauthenticate"),
    path("second-factor/", include("allauth.mfa.urls")),
    path("tokens/", views_tokens.tokens, name="tokens"),
    path("tokens/make/", views_tokens.make_api_token, name="make_api_token"),
    path("tokens/<int:number>/revoke/", views_tokens.revoke_api_token, name="revoke_api_token"),
]
