from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.i18n import set_language

from config import views
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
    path("log-in/", LoginView.as_view(redirect_authenticated_user=True), name="log_in"),
    path("log-out/", LogoutView.as_view(), name="log_out"),
    path("language/", views.public(set_language), name="set_language"),
]
