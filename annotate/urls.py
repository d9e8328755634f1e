from django.urls import path

from annotate.views import judging, own, practice

# mounted at /judge/
urlpatterns = [
    path("", judging.judge, name="judge"),
    path("practice/", practice.practice, name="practice"),
    path("practice/<slug:key>/", practice.answer_practice, name="answer_practice"),
    path("guidelines/", practice.guidelines, name="guidelines"),
    path("mine/", own.my_judgements, name="my_judgements"),
    path("summary/", own.sitting_summary, name="sitting_summary"),
    path("mine/settings/", own.save_preferences, name="save_preferences"),
    path("<uuid:key>/", judging.judge_comparison, name="judge_comparison"),
    path("<uuid:key>/draft/", judging.keep_draft, name="keep_draft"),
    path("<uuid:key>/submit/", judging.submit_judgement, name="submit_judgement"),
    path("<uuid:key>/skip/", judging.skip_comparison, name="skip_comparison"),
    path("<uuid:key>/undo/", judging.undo, name="undo"),
    path("<uuid:key>/edit/", judging.edit_judgement, name="edit_judgement"),
    path("<uuid:key>/readability/", own.show_readability, name="show_readability"),
]
