from django.urls import path

from annotate import views

# mounted at /judge/
urlpatterns = [
    path("", views.judge, name="judge"),
    path("<uuid:key>/", views.judge_comparison, name="judge_comparison"),
    path("<uuid:key>/submit/", views.submit_judgement, name="submit_judgement"),
    path("<uuid:key>/skip/", views.skip_comparison, name="skip_comparison"),
]
