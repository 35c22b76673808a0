"""The auditor's silence is not taken for praise."""

from typing import Any

from check_infra import ACCEPTED, complaints, older


def check(name: str) -> dict[str, str]:
    return {"check_id": name, "check_name": "a check", "file_path": "/main.bicep", "resource": "a"}


def report(*failed: str, unreadable: tuple[str, ...] = (), resources: int = 5) -> dict[str, Any]:
    return {
        "results": {"failed_checks": [check(name) for name in failed], "parsing_errors": list(unreadable)},
        "summary": {"resource_count": resources, "parsing_errors": len(unreadable), "passed": 1},
    }


def test_an_accepted_finding_is_not_a_complaint() -> None:
    assert complaints(report(*ACCEPTED)) == []


def test_every_accepted_finding_has_a_reason() -> None:
    assert all(len(reason) > 15 for reason in ACCEPTED.values())


def test_another_failure_is_a_complaint() -> None:
    assert complaints(report(*ACCEPTED, "CKV_AZURE_999")) == ["/main.bicep: a: a check (CKV_AZURE_999)"]


def test_a_file_that_it_could_not_read_is_a_complaint() -> None:
    """By itself, checkov ends well then."""
    assert complaints(report(*ACCEPTED, unreadable=("/bad.bicep",))) == ["/bad.bicep: checkov can't read it"]


def test_nothing_read_at_all_is_a_complaint() -> None:
    nothing = {"passed": 0, "failed": 0, "skipped": 0, "parsing_errors": 0, "resource_count": 0}
    assert "checkov saw no resource at all" in complaints(nothing)


def test_an_exception_that_nothing_needs_is_a_complaint() -> None:
    needless = min(ACCEPTED)
    (complaint,) = complaints(report(*(set(ACCEPTED) - {needless})))
    assert complaint.startswith(f"{needless} is accepted")


def test_syntax_that_the_auditor_cannot_read_is_rewritten() -> None:
    source = """@description('One.')
type Endpoint = {
  @description('Its name.')
  name: string
}

param tags { *: string }
param endpoints Endpoint[]
var names = concat(
  [
    'a'
  ],
  isMore
    ? ['b']
    : []
)
var told = empty(name) ? fail('It is empty (say it).') : name
"""
    assert (
        older(source)
        == """
param tags object
param endpoints array
var names = concat( [
    'a'
  ], isMore ? ['b'] : [] )
var told = empty(name) ? '' : name
"""
    )
