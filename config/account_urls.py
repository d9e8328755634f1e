from django.urls import path

from config import views_tokens as views

urlpatterns = [
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/make/", views.make_api_token, name="make_api_token"),
    path("tokens/<int:number>/revoke/", views.revoke_api_token, name="revoke_api_token"),
]
