from django.urls import path

from training import views, views_figures, views_notices, views_schedules, views_watch

# mounted at /rounds/
urlpatterns = [
    path("", views.rounds, name="rounds"),
    path("launch/", views.launch, name="launch"),
    path("schedules/", views_schedules.schedules, name="schedules"),
    path("schedules/add/", views_schedules.add_schedule, name="add_schedule"),
    path("schedules/promotion/", views_schedules.save_promotion_rule, name="save_promotion_rule"),
    path("schedules/<int:pk>/", views_schedules.edit_schedule, name="edit_schedule"),
    path("schedules/<int:pk>/save/", views_schedules.save_schedule, name="save_schedule"),
    path("schedules/<int:pk>/remove/", views_schedules.remove_schedule, name="remove_schedule"),
    path("proposals/<int:pk>/dismiss/", views_schedules.dismiss_proposal, name="dismiss_proposal"),
    path("simulate/", views.simulate_judgements, name="simulate_judgements"),
    path("notices/", views_notices.notices, name="notices"),
    path("notices/address/", views_notices.save_address, name="save_address"),
    path("notices/webhooks/", views_notices.add_webhook, name="add_webhook"),
    path("notices/<int:pk>/remove/", views_notices.remove_webhook, name="remove_webhook"),
    path("notices/<int:pk>/test/", views_notices.send_test, name="send_test"),
    path("compare/", views_watch.compare_rounds, name="compare_rounds"),
    path("dashboard/", views_figures.dashboard, name="dashboard"),
    path("dashboard/<slug:table>.csv", views_figures.dashboard_csv, name="dashboard_csv"),
    path("limits/", views_figures.alarm_limits, name="alarm_limits"),
    path("limits/save/", views_figures.save_alarm_limits, name="save_alarm_limits"),
    path("<int:number>/judgements/", views_figures.round_judgements, name="round_judgements"),
    path("<int:number>/curves.csv", views_watch.curves_csv, name="curves_csv"),
    path("<int:number>/<slug:table>.csv", views_figures.round_csv, name="round_csv"),
    path("<int:number>/", views.show_round, name="show_round"),
    path("<int:number>/progress/", views_watch.round_progress, name="round_progress"),
    path("<int:number>/pairs.jsonl", views.download_pairs, name="download_pairs"),
    path("<int:number>/cancel/", views.cancel, name="cancel"),
    path("<int:number>/promote/", views.promote, name="promote"),
    path("<int:number>/reject/", views.reject, name="reject"),
]
