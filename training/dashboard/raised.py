"""The alarms of all rounds."""

from django.urls import reverse
from django.utils.translation import gettext as _

from training import alarms, tables
from training.models import Alarm, Watched
from training.tables import Column, Table


def alarms_table() -> Table:
    """The alarms of all rounds, newest round first."""
    found = Alarm.objects.select_related("round").order_by("-round__number", "pk")
    rows = [
        [
            tables.text(
                _("Round %(number)d") % {"number": alarm.round.number},
                link=reverse("show_round", args=[alarm.round.number]) + "#alarms",
            ),
            tables.text(alarm.get_kind_display(), tag="alarm"),
            tables.number(alarm.value, alarms.written(Watched(alarm.kind), alarm.value)),
            tables.number(alarm.limit, alarms.written(Watched(alarm.kind), alarm.limit)),
        ]
        for alarm in found
    ]
    columns = [
        Column(_("round"), ("round",), number=False),
        Column(_("alarm"), ("alarm",), number=False),
        Column(_("figure"), ("value",)),
        Column(_("limit"), ("limit",)),
    ]
    return Table("alarms", _("Alarms"), _("Figures beyond their limits."), columns, rows, (), _("No alarm."))
