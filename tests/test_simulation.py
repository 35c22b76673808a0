"""The simulated burst in small: what `make simulate` shows for a million images holds for a thousand."""

from dataclasses import asdict, replace
from functools import cache
from typing import Any

import pytest

from bench.simulation.burst import Report, Scenario, Span, simulate
from bench.simulation.host import Parallelism, parallelism

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
    assert outcome(simulate(BURST)) == outcome(burst())
    assert outcome(simulate(replace(BURST, seed=6))) != outcome(burst())


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
