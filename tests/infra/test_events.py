"""Every upload's event reaches the pipeline, or is kept."""

import re

from templates import TEMPLATES, resources

SUBSCRIPTION = TEMPLATES["event-subscription.bicep"]
UPLOADS = SUBSCRIPTION.resource("uploads")["properties"]
BY_IDENTITY = {"type": "SystemAssigned"}
"""The topic's own: the only one that passes a storage firewall."""


def test_the_topic_has_an_identity() -> None:
    (topic,) = resources("Microsoft.EventGrid/systemTopics")
    assert topic.body["identity"] == BY_IDENTITY


def test_events_go_to_the_webhook_or_by_identity_to_the_queue() -> None:
    assert UPLOADS["destination"] == "eventDelivery == 'webhook' ? webhookDestination : null"
    assert UPLOADS["deliveryWithResourceIdentity"] == "eventDelivery == 'queue' ? queueDestination : null"
    assert SUBSCRIPTION.variables["webhookDestination"]["endpointType"] == "WebHook"
    assert SUBSCRIPTION.variables["queueDestination"] == {
        "identity": BY_IDENTITY,
        "destination": {
            "endpointType": "StorageQueue",
            "properties": {
                "resourceId": "dataStorage.id",
                "queueName": "requestsQueue",
                "queueMessageTimeToLiveInSeconds": -1,  # the default would drop what waits for seven days
            },
        },
    }
    assert UPLOADS["eventDeliverySchema"] == "EventGridSchema", "which the blob extension and our own code read"


def test_what_cannot_be_delivered_is_tried_for_a_day_and_then_kept() -> None:
    assert UPLOADS["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
    assert UPLOADS["deadLetterWithResourceIdentity"] == {
        "identity": BY_IDENTITY,
        "deadLetterDestination": {
            "endpointType": "StorageBlob",
            "properties": {"resourceId": "dataStorage.id", "blobContainerName": "deadLetterContainer"},
        },
    }


def test_alerts_watch_metrics_that_there_are() -> None:
    """As named in https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/metrics-index."""
    watched = {}
    for alert in resources("Microsoft.Insights/metricAlerts"):
        (criterion,) = alert.body["properties"]["criteria"]["allOf"]
        dimensions = {each["name"]: each["values"] for each in criterion.get("dimensions", [])}
        watched[criterion["metricNamespace"], criterion["metricName"]] = dimensions
    assert watched == {
        ("Microsoft.EventGrid/systemTopics", "DeadLetteredCount"): {},
        ("Microsoft.CognitiveServices/accounts", "AzureOpenAIRequests"): {
            "StatusCode": ["429"],
            "ModelDeploymentName": ["modelDeploymentName"],
        },
    }


def test_a_failed_call_of_the_http_function_is_no_alert() -> None:
    """Its caller sees it; a wrong image would wake somebody up."""
    query = TEMPLATES["modules/alerts.bicep"].variables["failedFunctionsQuery"]
    assert re.search(r"success == false and name !contains 'process_image'", query)
