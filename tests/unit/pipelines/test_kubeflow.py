"""The stand-in server refuses what the real one would: else the tests of submit prove little."""

from typing import Any

import pytest

from tests.unit.pipelines.kubeflow import RefusedError, check


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("V2beta1Run", {"displayName": "x"}, "V2beta1Run has no such field"),
        ("V2beta1Run", {"display_name": 1}, "1 is no str"),
        ("V2beta1Run", {"state": "DONE"}, "'DONE' is no V2beta1RuntimeState"),
        ("V2beta1Run", {"runtime_config": {"params": {}}}, "runtime_config.params"),
        ("V2beta1RecurringRun", {"max_concurrency": 1}, "1 is no str"),
        ("V2beta1RecurringRun", {"no_catchup": "yes"}, "'yes' is no bool"),
        ("V2beta1RecurringRun", {"trigger": {"cron_schedule": {"every": ""}}}, "no such field"),
        ("V2beta1RunDetails", {"task_details": {}}, "{} is no list"),
    ],
)
def test_a_body_that_is_not_of_the_api_is_refused(kind: str, body: Any, told: str) -> None:
    with pytest.raises(RefusedError) as error:
        check(kind, body)
    assert error.value.status == 400
    assert told in str(error.value)
