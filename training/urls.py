from django.urls import path

from training import views, views_figures, views_policies

# mounted at /rounds/
urlpatterns = [
    path("", views.rounds, name="rounds"),
    path("launch/", views.launch, name="launch"),
    path("schedule/", views.save_schedule, name="save_schedule"),
    path("simulate/", views.simulate_judgements, name="simulate_judgements"),
    path("dashboard/", views_figures.dashboard, name="dashboard"),
    path("dashboard/<slug:table>.csv", views_figures.dashboard_csv, name="dashboard_csv"),
    path("limits/", views_figures.alarm_limits, name="alarm_limits"),
    path("limits/save/", views_figures.save_alarm_limits, name="save_alarm_limits"),
    path("<int:number>/judgements/", views_figures.round_judgements, name="round_judgements"),
    path("<int:number>/<slug:table>.csv", views_figures.round_csv, name="round_csv"),
    path("<int:number>/", views.show_round, name="show_round"),
    path("<int:number>/pairs.jsonl", views.download_pairs, name="download_pairs"),
    path("<int:number>/cancel/", views.cancel, name="cancel"),
    path("<int:number>/resume/", views_policies.resume, name="resume"),
    path("<int:number>/promote/", views.promote, name="promote"),
    path("<int:number>/reject/", views.reject, name="reject"),
]
