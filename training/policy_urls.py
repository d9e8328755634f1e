from django.urls import path

from training import views_policies

# mounted at /policies/
urlpatterns = [
    path("", views_policies.policies, name="policies"),
    path("<int:number>/", views_policies.show_policy, name="show_policy"),
    path("<int:number>/facts/", views_policies.save_policy_facts, name="save_policy_facts"),
    path("<int:number>/roll-back/", views_policies.roll_back_to, name="roll_back_to"),
    path("<int:number>/delete-weights/", views_policies.delete_policy_weights, name="delete_policy_weights"),
    path("<int:number>/README.md", views_policies.download_card, name="download_card"),
    path("<int:number>/weights.tar", views_policies.download_weights, name="download_weights"),
    path("<int:number>/adapter.tar", views_policies.download_adapter, name="download_adapter"),
]
