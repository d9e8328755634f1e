"""The API against its own schema: schemathesis makes up requests, right and wrong ones, and looks at the answers.

In process, over WSGI, on a real database; derandomized, so that a run is the same each time.
"""

from collections.abc import Iterator

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from config.wsgi import application
from tests.config.api import make_admin, make_judged, make_round, token_of
from tests.factories import make_evaluation, make_policy
from training.models import State

pytestmark = pytest.mark.django_db
schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)


@pytest.fixture
def token() -> Iterator[str]:
    """An admin's, where there is something of everything. The test's transaction outlives each request."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    policy, _order = make_judged()
    result = make_policy("round-1", parent=policy)
    make_evaluation(result, policy)
    make_round(1, policy=policy, result=result, state=State.JUDGING)
    yield token_of(make_admin())
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@schema.parametrize()
@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_what_is_answered_is_what_the_schema_says(case: Case, token: str) -> None:
    # what no schema can say may be refused too: a text twice, a theme that no prompt has, no pairs
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, excluded_checks=[positive_data_acceptance])
