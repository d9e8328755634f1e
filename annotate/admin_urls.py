from django.urls import path

from annotate.views import admin

# mounted at /judging/
urlpatterns = [
    path("", admin.judging, name="judging"),
    path("campaign/", admin.save_campaign, name="save_campaign"),
    path("experts/", admin.experts, name="experts"),
    path("reports/", admin.reports, name="reports"),
    path("reports/<int:number>/", admin.settle_report, name="settle_report"),
    path("disagreements/", admin.disagreements, name="disagreements"),
    path("disagreements/<int:number>/", admin.send_to_adjudicator, name="send_to_adjudicator"),
    path("gold/", admin.gold, name="gold"),
    path("gold/add/<int:number>/", admin.add_gold, name="add_gold"),
    path("gold/remove/<int:number>/", admin.remove_gold, name="remove_gold"),
]
