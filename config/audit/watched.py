"""Which statements a trigger of the audit log looks at, so that only these are told who sends them.

The triggers themselves are in the migrations; tests/config/test_audit_log.py compares.
"""

import re
from dataclasses import dataclass

ANY = ("*",)


@dataclass(frozen=True)
class Watched:
    """update: the columns whose change is an act; ANY: all."""

    insert: bool = True
    update: tuple[str, ...] = ()
    delete: bool = True


TABLES = {
    "auth_user": Watched(update=("username", "email", "password", "is_staff", "is_superuser", "is_active")),
    "annotate_expert": Watched(update=("audience", "adjudicates", "simulated"), delete=False),
    "mfa_authenticator": Watched(),
    "config_apitoken": Watched(update=("user_id", "digest", "expires_at", "revoked_at")),
    "config_invitation": Watched(update=("used_at", "revoked_at", "role", "audience", "expires_at", "digest")),
    "config_auditentry": Watched(insert=False),
    "training_round": Watched(update=("cancel_requested", "state", "checkpoint_deleted_at")),
    "generation_policy": Watched(
        update=("is_current", "weights_deleted_at", "name", "weights_hash", "license", "hub_name")
    ),
    "annotate_campaign": Watched(insert=False, update=ANY, delete=False),
    "generation_judgemodel": Watched(update=ANY),
    "training_alarmlimits": Watched(update=ANY),
    "training_promotionrule": Watched(update=ANY),
    "training_schedule": Watched(update=ANY),
    "training_proposal": Watched(insert=False, update=("closed_at",), delete=False),
    "training_destination": Watched(update=ANY),
    "generation_writingrun": Watched(update=("state",), delete=False),
    "annotate_export": Watched(delete=False),
    "annotate_origin": Watched(update=("withdrawn_at",), delete=False),
    "annotate_report": Watched(insert=False, update=("outcome",), delete=False),
    "annotate_gold": Watched(update=("retired_at",), delete=False),
    "generation_prompt": Watched(),
    "generation_samplingrow": Watched(update=ANY),
}
READS = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK")
WRITE = re.compile(r'\s*(INSERT INTO|UPDATE|DELETE FROM)\s+(?:ONLY\s+)?(?:"?public"?\.)?"?(\w+)', re.IGNORECASE)
INDIRECT = re.compile(r"\s*(WITH|MERGE|DO|COPY|CALL|EXECUTE)\b", re.IGNORECASE)
NAMED = re.compile("|".join(TABLES))


def concerns(statement: str) -> bool:
    """Whether a trigger may write an entry for this SQL. Asked for each statement: a microsecond or two."""
    if statement.startswith(READS):
        return False
    write = WRITE.match(statement)
    if not write:
        # rare here. Others (VACUUM, CREATE INDEX CONCURRENTLY) change no row, and may stand in no transaction
        return bool(INDIRECT.match(statement) and NAMED.search(statement))
    verb, table = write[1].upper(), TABLES.get(write[2])
    if table is None:
        return False
    if verb == "UPDATE":
        assigned = statement.partition(" WHERE ")[0]
        return table.update == ANY or any(column in assigned for column in table.update)
    return table.delete if verb == "DELETE FROM" else table.insert or bool(table.update)  # ON CONFLICT … UPDATE
