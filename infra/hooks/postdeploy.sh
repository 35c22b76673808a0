#!/bin/sh
# Sends the data account's events to the deployed pipeline: waits for the webhook's key, then deploys
# infra/bicep/event-subscription.bicep. azd runs it after each deployment; it can be run again at any time:
#   eval "$(azd env get-values | sed 's/^/export /')" && sh infra/hooks/postdeploy.sh
# The key itself never comes here: Azure is only asked whether it is there.
set -u
cd "$(dirname "$0")/../.." || exit 1

fail() {
    echo "error: $1" >&2
    echo "The pipeline is deployed, but NO EVENTS REACH IT YET: images that are dropped wait an hour for the reconciliation." >&2
    echo "When it is mended, run 'azd hooks run postdeploy'. More: docs/deploy.md, \"When something goes wrong\"." >&2
    exit 1
}

for name in AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME AZURE_STORAGE_ACCOUNT_NAME \
    AZURE_EVENT_GRID_TOPIC_NAME AZURE_EVENT_DELIVERY BLOBSIGHT_INPUT_CONTAINER BLOBSIGHT_REQUESTS_QUEUE \
    BLOBSIGHT_DEAD_LETTER_CONTAINER; do
    eval "value=\${$name:-}"
    [ -n "$value" ] || fail "$name is not set: it is an output of infra/bicep/main.bicep. Run 'azd provision' first."
done
command -v az >/dev/null 2>&1 ||
    fail "the Azure CLI (az) is not installed: https://learn.microsoft.com/cli/azure/install-azure-cli"
az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none ||
    fail "the Azure CLI can't see subscription $AZURE_SUBSCRIPTION_ID: run 'az login' (azd's own login is another one)."

group="/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP/providers"
app="$group/Microsoft.Web/sites/$AZURE_FUNCTION_APP_NAME"
attempts="${BLOBSIGHT_HOOK_ATTEMPTS:-60}"
pause="${BLOBSIGHT_HOOK_PAUSE_SECONDS:-10}"
problem="$(mktemp)" || exit 1
trap 'rm -f "$problem"' EXIT

key_is_there() {
    answer="$(az rest --method post --url "$app/host/default/listkeys?api-version=2024-11-01" --output json \
        --query "contains(keys(not_null(systemKeys, \`{}\`)), 'blobs_extension')" 2>"$problem")" && [ "$answer" = true ]
}

if [ "$AZURE_EVENT_DELIVERY" = webhook ]; then
    attempt=1
    until key_is_there; do
        if [ "$attempt" -ge "$attempts" ]; then
            sed -n '1,3p' "$problem" >&2
            fail "$AZURE_FUNCTION_APP_NAME has no webhook key (blobs_extension) after $attempts looks, $pause s apart: its code has not started. A wrong setting stops the start: see the app's log stream in the portal."
        fi
        echo "Waiting for $AZURE_FUNCTION_APP_NAME to start: no webhook key yet ($attempt of $attempts) ..."
        attempt=$((attempt + 1))
        sleep "$pause"
    done
    other=queue
else
    other=webhook
fi

echo "Subscribing the pipeline to uploads, by $AZURE_EVENT_DELIVERY ..."
attempt=1
# The handshake fails while the app starts, and a role takes minutes to count everywhere.
until az deployment group create --subscription "$AZURE_SUBSCRIPTION_ID" --resource-group "$AZURE_RESOURCE_GROUP" \
    --name event-subscription --template-file infra/bicep/event-subscription.bicep --output none --parameters \
    systemTopicName="$AZURE_EVENT_GRID_TOPIC_NAME" dataStorageName="$AZURE_STORAGE_ACCOUNT_NAME" \
    functionAppName="$AZURE_FUNCTION_APP_NAME" eventDelivery="$AZURE_EVENT_DELIVERY" \
    inputContainer="$BLOBSIGHT_INPUT_CONTAINER" requestsQueue="$BLOBSIGHT_REQUESTS_QUEUE" \
    deadLetterContainer="$BLOBSIGHT_DEAD_LETTER_CONTAINER"; do
    [ "$attempt" -lt 3 ] || fail "deploying infra/bicep/event-subscription.bicep failed $attempt times; the last error is above."
    echo "That failed (attempt $attempt of 3); trying again in $((pause * 3)) s ..." >&2
    attempt=$((attempt + 1))
    sleep "$((pause * 3))"
done

# After a change of eventDelivery the old way would deliver everything a second time.
old="$group/Microsoft.EventGrid/systemTopics/$AZURE_EVENT_GRID_TOPIC_NAME/eventSubscriptions/analyze-image-$other"
if az resource show --ids "$old" --api-version 2025-02-15 --output none 2>"$problem"; then
    echo "Removing the subscription that delivered by $other ..."
    az resource delete --ids "$old" --api-version 2025-02-15 --output none ||
        fail "the old subscription analyze-image-$other could not be removed: delete it in the portal."
elif ! grep -qi 'notfound\|not found' "$problem"; then
    cat "$problem" >&2
    fail "whether an old subscription analyze-image-$other is left could not be found out."
fi
echo "Done: drop an image into '$BLOBSIGHT_INPUT_CONTAINER' of $AZURE_STORAGE_ACCOUNT_NAME."
