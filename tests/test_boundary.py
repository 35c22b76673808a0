"""Unexpected exceptions are logged where an operator looks, without people's text."""

import pytest

from pipeline.errors import RetryableFailure
from pipeline.triggers.invocation import uncancelled


def fail(words: str) -> None:
    raise KeyError(words)


def test_an_unexpected_exception_is_logged_by_type_and_place_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(KeyError), uncancelled("images/a.png"):
        fail("what a person wrote")
    (record,) = caplog.records
    assert record.getMessage().startswith("Unexpected KeyError at test_boundary.py:")
    assert " in fail, " in record.getMessage()
    assert "person" not in caplog.text
    assert record.__dict__["error_type"] == "KeyError"


def test_an_expected_failure_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RetryableFailure), uncancelled("images/a.png"):
        raise RetryableFailure("The queue can't be reached.")
    assert caplog.records == []
