#!/bin/sh
# Sends the data account's events to the deployed pipeline: waits for the webhook's key, and before the first subscription
# for the app's own record that it reads images and writes results; then deploys infra/bicep/event-subscription.bicep. An
# event that comes while the app may not look at the upload yet stops its whole host. azd runs it after each deployment; it
# can be run again at any time:
#   eval "$(azd env get-values --output json | python3 tools/exports.py)" && sh infra/hooks/postdeploy.sh
# The key itself never comes here: Azure is only asked whether it is there. Keep it in step with postdeploy.ps1.
set -u
cd "$(dirname "$0")/../.." || exit 1

fail() {
    echo "error: $1" >&2
    echo "The pipeline is deployed, but NO EVENTS REACH IT YET: images that are dropped wait an hour for the reconciliation." >&2
    echo "Once that is fixed, run 'azd hooks run postdeploy'. More: docs/deploy.md, \"When something goes wrong\"." >&2
    exit 1
}

for name in AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME AZURE_STORAGE_ACCOUNT_NAME \
    AZURE_EVENT_GRID_TOPIC_NAME AZURE_EVENT_DELIVERY BLOBSIGHT_INPUT_CONTAINER BLOBSIGHT_OUTPUT_CONTAINER \
    BLOBSIGHT_STATE_CONTAINER BLOBSIGHT_REQUESTS_QUEUE BLOBSIGHT_DEAD_LETTER_CONTAINER; do
    eval "value=\${$name:-}"
    [ -n "$value" ] || fail "$name is not set: it is an output of infra/bicep/main.bicep. Run 'azd provision' first."
done
command -v az >/dev/null 2>&1 ||
    fail "the Azure CLI (az) is not installed: https://learn.microsoft.com/cli/azure/install-azure-cli"
az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none ||
    fail "the Azure CLI can't see subscription $AZURE_SUBSCRIPTION_ID: run 'az login' (azd's own login is another one)."

group="/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP/providers"
app="$group/Microsoft.Web/sites/$AZURE_FUNCTION_APP_NAME"
subscriptions="$group/Microsoft.EventGrid/systemTopics/$AZURE_EVENT_GRID_TOPIC_NAME/eventSubscriptions"
attempts="${BLOBSIGHT_HOOK_ATTEMPTS:-60}"
pause="${BLOBSIGHT_HOOK_PAUSE_SECONDS:-10}"
problem="$(mktemp)" && record="$(mktemp)" || exit 1
trap 'rm -f "$problem" "$record"' EXIT

key_is_there() {
    answer="$(az rest --method post --url "$app/host/default/listkeys?api-version=2025-03-01" --output json \
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

subscribed() {
    az resource show --ids "$subscriptions/analyze-image-$1" --api-version 2025-02-15 --output none 2>"$problem"
}

# What the app's record says of a name: true, false or a text without quotes. Nothing if it is not there.
said() {
    tr -d '\n\r' <"$record" | sed -n "s/.*\"$1\" *: *\"\{0,1\}\([^\",}]*\).*/\1/p"
}

# Sets found: ready, waiting (why is told by $why) or hidden, where the record can't be seen from here.
look_at_record() {
    if az storage blob download --auth-mode login --account-name "$AZURE_STORAGE_ACCOUNT_NAME" \
        --container-name "$BLOBSIGHT_STATE_CONTAINER" --name readiness.json --file "$record" --no-progress \
        --output none >/dev/null 2>"$problem"; then
        checked="$(said checked_at | cut -c1-19)"
        found=waiting
        if expr "x$checked" \< "x$since" >/dev/null; then
            why="its record is older than this deployment"
        elif [ "$(said read_input) $(said write_results) $(said queue)" = "true true true" ]; then
            found=ready
        else
            why="the app reports: $(tr -d '\n\r' <"$record" | sed -n 's/.*"problems" *: *\[\([^]]*\).*/\1/p' | cut -c1-300)"
        fi
    elif grep -qi 'notfound\|does not exist' "$problem"; then
        found=waiting why="it has no record yet"
    else
        found=hidden why="its record can't be seen from here"
    fi
}

# The app writes the record when it starts, and every five minutes until all of it works.
wait_until_ready() {
    since="${BLOBSIGHT_DEPLOYED_AT:-}" # from predeploy.sh
    attempt=1
    while look_at_record && [ "$found" != ready ]; do
        if [ "$found" = hidden ] && [ "$attempt" -ge "$attempts" ]; then
            echo "Whether $AZURE_FUNCTION_APP_NAME may read and write could not be seen from here within $((attempts * pause)) s (a firewall, or no data role for you). By now new roles count, so it gets its events."
            echo "If results don't appear, 'blobsight doctor' says why; 'azd hooks run postdeploy' runs this again."
            return
        fi
        if [ "$attempt" -ge "$((attempts * 2))" ]; then
            fail "$AZURE_FUNCTION_APP_NAME has not shown within $((attempts * 2 * pause)) s that it reads '$BLOBSIGHT_INPUT_CONTAINER' and writes '$BLOBSIGHT_OUTPUT_CONTAINER': $why. 'blobsight doctor' and the app's log stream say more."
        fi
        echo "Waiting for $AZURE_FUNCTION_APP_NAME to show that it reads images and writes results: $why ($attempt of $((attempts * 2))) ..."
        attempt=$((attempt + 1))
        sleep "$pause"
    done
}

if ! subscribed "$AZURE_EVENT_DELIVERY" && ! subscribed "$other"; then
    wait_until_ready
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
if subscribed "$other"; then
    echo "Removing the subscription that delivered by $other ..."
    az resource delete --ids "$subscriptions/analyze-image-$other" --api-version 2025-02-15 --output none ||
        fail "the old subscription analyze-image-$other could not be removed: delete it in the portal."
elif ! grep -qi 'notfound\|not found' "$problem"; then
    cat "$problem" >&2
    fail "whether an old subscription analyze-image-$other is left could not be found out."
fi
echo "Done: drop an image into '$BLOBSIGHT_INPUT_CONTAINER' of $AZURE_STORAGE_ACCOUNT_NAME."
