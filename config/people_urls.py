from django.urls import path

from config import views_audit
from config import views_people as views

# mounted at /people/
urlpatterns = [
    path("", views.people, name="people"),
    path("invite/", views.invite, name="invite"),
    path("invitations/<int:number>/revoke/", views.revoke_invitation, name="revoke_invitation"),
    path("<int:number>/", views.show_person, name="show_person"),
    path("<int:number>/save/", views.save_person, name="save_person"),
    path("<int:number>/reset-link/", views.make_reset_link, name="make_reset_link"),
    path("<int:number>/second-factor/remove/", views.remove_second_factor, name="remove_second_factor"),
    path("audit/", views_audit.audit_log, name="audit_log"),
    path("audit/export/", views_audit.export_audit_log, name="export_audit_log"),
]
