from django.urls import path

from generation import views

# mounted at /writing/
urlpatterns = [
    path("", views.writing, name="writing"),
    path("engine/", views.show_engine, name="show_engine"),
    path("engine/check/", views.start_check, name="start_check"),
    path("missing/", views.write_missing, name="write_missing"),
    path("runs/<int:number>/", views.show_run, name="show_run"),
    path("runs/<int:number>/cancel/", views.cancel_run, name="cancel_run"),
    path("runs/<int:number>/continue/", views.continue_run, name="continue_run"),
    path("plan/", views.plan, name="plan"),
    path("plan/save/", views.save_sampling_plan, name="save_sampling_plan"),
    path("plan/reset/", views.reset_sampling_plan, name="reset_sampling_plan"),
    path("detectors/", views.show_detectors, name="show_detectors"),
    path("detectors/judge/", views.save_judge, name="save_judge"),
    path("detectors/read/", views.start_reading, name="start_reading"),
]
