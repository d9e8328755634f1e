"""The only way in which entries go: they are old, and it is said that they went."""

from datetime import datetime

from django.db import connection, transaction

from config.models_audit import AuditEntry

ALLOW = "SELECT set_config('storyloop.audit_delete_before', %s, true)"  # until the transaction ends
KEPT_DAYS = 90  # the trigger's number: config/migrations/0005_audit.py


@transaction.atomic
def delete_before(moment: datetime) -> int:
    """How many went. The database refuses those of the last KEPT_DAYS days (IntegrityError), and adds an entry."""
    with connection.cursor() as cursor:
        cursor.execute(ALLOW, [moment.isoformat()])
        gone = AuditEntry.objects.filter(at__lt=moment).delete()[0]
        cursor.execute(ALLOW, [""])
    return gone
