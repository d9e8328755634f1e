from django.contrib.auth.views import LogoutView
from django.urls import include, path
from django.views.i18n import set_language

from config import views, views_accounts
from config.api.site import urls as api_urls

handler400 = "config.views_errors.bad_request"
handler500 = "config.views_errors.server_error"

urlpatterns = [
    path("", views.home, name="home"),
    path("", include("config.health_urls")),
    path("judge/", include("annotate.urls")),
    path("judging/", include("annotate.admin_urls")),
    path("data/", include("annotate.data_urls")),
    path("listen/", include("annotate.listening_urls")),
    path("rounds/", include("training.urls")),
    path("policies/", include("training.policy_urls")),
    path("writing/", include("generation.urls")),
    path("account/", include("config.account_urls")),
    path("api/v1/", api_urls),
    path("people/", include("config.people_urls")),
    path("invitation/", views_accounts.accept, name="accept"),
    path("invitation/<str:token>/", views_accounts.open_invitation, name="open_invitation"),
    path("log-in/", views_accounts.log_in, name="log_in"),
    path("log-out/", LogoutView.as_view(), name="log_out"),
    path("language/", views.public(set_language), name="set_language"),
]
