"""Questions that go by batch: one result each, as if they had gone the usual way, at half the price."""

import pytest
from support.person import Person
from support.pictures import picture

pytestmark = pytest.mark.timeout(120)


async def test_an_image_that_goes_by_batch_gets_its_result(person: Person) -> None:
    await person.drop("batch/one.png", picture(), {"instructions": "By batch?", "service_tier": "batch"})
    result = await person.result("batch/one.png")
    assert result["status"] == "succeeded", result
    assert result["model"]["service_tier"] == "batch"
    assert result["answer"]["text"] == "You asked: By batch?"
