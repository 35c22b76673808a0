"""The simulated burst in small: what `make simulate` shows for a million images holds for a thousand."""

from dataclasses import asdict, replace
from functools import cache
from typing import Any

import pytest
from support.examples import some_of

from bench.simulation.batch_service import Conditions
from bench.simulation.burst import Report, Scenario, Span, simulate
from bench.simulation.host import Parallelism, parallelism
from bench.simulation.night import Night, NightReport, spend

BURST = Scenario(images=600, seed=5, instances=3, quota=1_000_000)
"""Three times as many images as the quota lets through in a minute."""


def outcome(report: Report) -> dict[str, Any]:
    return asdict(report) | {"wall_seconds": None}


@cache
def burst() -> Report:
    return simulate(BURST)


def test_a_burst_is_drained_near_the_quotas_ideal_with_each_image_delivered_once() -> None:
    report = burst()
    assert report.is_complete
    assert report.quota_used >= 0.7
    assert report.refused_share <= 0.1
    assert report.deliveries <= 1.05 * BURST.images
    assert report.operations_per_image <= 8


@pytest.mark.no_cover
def test_a_seed_decides_everything() -> None:
    small = replace(BURST, images=200)
    report = outcome(simulate(small))
    assert outcome(simulate(small)) == report
    assert outcome(simulate(replace(small, seed=6))) != report


def test_far_more_instances_than_the_quota_feeds_do_not_send_the_backlog_round_the_request_queue() -> None:
    """Put off as soon as a turn was half a minute away, each image was delivered twenty times and more."""
    crowd = simulate(replace(BURST, images=300, instances=20, at_once=20, quota=300_000))
    assert crowd.is_complete
    assert crowd.deliveries <= 3 * 300
    assert crowd.quota_used >= 0.4


@pytest.mark.no_cover
def test_an_outage_and_a_backlog_longer_than_the_retries_fail_no_image() -> None:
    """Work that waits for a turn has not failed."""
    backlog = simulate(replace(BURST, settings={"RETRY_FOR_SECONDS": "60"}))
    assert backlog.is_complete
    assert backlog.waits["longest"] > 120
    outage = simulate(replace(BURST, outage=Span(60, 1860)))
    assert outage.is_complete
    assert outage.failed <= BURST.images
    assert outage.drained_seconds <= outage.ideal_seconds + 300


def test_parallelism_is_what_the_host_makes_of_its_settings() -> None:
    """As in the extension's own test of it: 64 are two batches, of which the second is fetched at half."""
    host = {
        "extensions": {
            "blobs": {"maxDegreeOfParallelism": 64, "poisonBlobThreshold": 5},
            "queues": {"batchSize": 16, "newBatchThreshold": 8, "visibilityTimeout": "00:00:30", "maxDequeueCount": 4},
        }
    }
    assert parallelism(host) == (Parallelism(32, 32, 0.0, 5), Parallelism(16, 8, 30.0, 4))


NIGHT = Night(images=400, seed=5)
"""Three files."""


@cache
def night() -> NightReport:
    return spend(NIGHT)


def test_a_night_by_batch_ends_with_each_image_paid_once() -> None:
    report = night()
    assert report.is_complete
    assert report.deliveries == 2 * NIGHT.images
    assert report.seen.files == 3
    assert 190e6 < report.seen.largest <= 200e6
    assert report.hours <= NIGHT.service.hours * 1.25 + 0.5
    assert report.operations["blob write"] <= 8.5 * NIGHT.images


@pytest.mark.parametrize(
    "refuses_late",
    some_of([True, False]),
)
def test_a_file_with_more_tokens_than_the_whole_quota_goes_in_parts(refuses_late: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It waited for three days, and its images were asked about anew."""
    service = Conditions(quota=400_000, refuses_late=refuses_late)
    report = spend(replace(NIGHT, image_bytes=1_000, service=service))
    assert report.is_complete
    assert report.seen.most_enqueued <= 400_000
    assert report.hours <= 3 * NIGHT.service.hours


def test_the_default_lane_waits_no_longer_while_images_go_by_batch() -> None:
    alone = spend(replace(NIGHT, images=0, others=40, per_second=NIGHT.per_second / 11))
    both = spend(replace(NIGHT, others=40))
    assert both.is_complete
    assert alone.is_complete
    assert both.waits["half"] <= alone.waits["half"] + 5
    assert both.waits["longest"] <= alone.waits["longest"] + 10
