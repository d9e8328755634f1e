from django.urls import path

from annotate.views import data

# mounted at /data/
urlpatterns = [
    path("", data.data, name="data"),
    path("make/", data.make_export, name="make_export"),
    path("<int:number>/", data.show_export, name="show_export"),
    path("<int:number>/again/", data.repeat_export, name="repeat_export"),
    path("<int:number>/file/", data.download_export, name="download_export"),
    path("imported/", data.imported, name="imported"),
    path("imported/check/", data.check_import, name="check_import"),
    path("imported/store/", data.store_import, name="store_import"),
    path("imported/<int:number>/withdraw/", data.withdraw, name="withdraw"),
]
