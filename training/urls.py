from django.urls import path

from training import views

# mounted at /rounds/
urlpatterns = [
    path("", views.rounds, name="rounds"),
    path("launch/", views.launch, name="launch"),
    path("schedule/", views.save_schedule, name="save_schedule"),
    path("simulate/", views.simulate_judgements, name="simulate_judgements"),
    path("<int:number>/", views.show_round, name="show_round"),
    path("<int:number>/pairs.jsonl", views.download_pairs, name="download_pairs"),
    path("<int:number>/cancel/", views.cancel, name="cancel"),
    path("<int:number>/promote/", views.promote, name="promote"),
    path("<int:number>/reject/", views.reject, name="reject"),
]
