from django.urls import path

from annotate.views import listening

# mounted at /listen/
urlpatterns = [
    path("", listening.listen, name="listen"),
    path("start/", listening.start_listening, name="start_listening"),
    path("listenings.csv", listening.listenings_csv, name="listenings_csv"),
    path("<uuid:key>/", listening.listening_session, name="listening_session"),
    path("<uuid:key>/next/", listening.next_pair, name="next_pair"),
    path("<uuid:key>/end/", listening.end_listening, name="end_listening"),
    path("pair/<uuid:key>/1/", listening.hear_first, name="hear_first"),
    path("pair/<uuid:key>/2/", listening.hear_second, name="hear_second"),
    path("pair/<uuid:key>/choose/", listening.this_or_that, name="this_or_that"),
    path("pair/<uuid:key>/choice/", listening.save_choice, name="save_choice"),
    path("pair/<uuid:key>/notes/", listening.listening_notes, name="listening_notes"),
    path("pair/<uuid:key>/notes/save/", listening.save_listening_notes, name="save_listening_notes"),
]
