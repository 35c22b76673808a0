"""Every upload's event reaches the pipeline, or is kept."""

from support.templates import TEMPLATES, resources

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


def test_undeliverable_events_are_tried_for_a_day_and_then_kept() -> None:
    assert UPLOADS["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
    assert UPLOADS["deadLetterWithResourceIdentity"] == {
        "identity": BY_IDENTITY,
        "deadLetterDestination": {
            "endpointType": "StorageBlob",
            "properties": {"resourceId": "dataStorage.id", "blobContainerName": "deadLetterContainer"},
        },
    }
