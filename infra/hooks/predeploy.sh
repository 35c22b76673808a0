#!/bin/sh
# Waits before a first deployment until the new roles count. azd uploads the package to the app, whose identity writes it to
# its storage account; with a role that is a minute old that is refused: https://github.com/Azure/azure-dev/issues/8026.
# Nobody but the app can try its role, so this tries one of the roles made with it: yours on the input container.
# azd runs it before each deployment; where code has been deployed before, it does nothing. Keep it in step with predeploy.ps1.
set -u

fail() {
    echo "error: $1" >&2
    echo "Nothing has been deployed. Once that is fixed, run 'azd deploy'." >&2
    exit 1
}

for name in AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME AZURE_STORAGE_ACCOUNT_NAME \
    BLOBSIGHT_INPUT_CONTAINER; do
    eval "value=\${$name:-}"
    [ -n "$value" ] || fail "$name is not set: it is an output of infra/bicep/main.bicep. Run 'azd provision' first."
done
command -v az >/dev/null 2>&1 ||
    fail "the Azure CLI (az) is not installed: https://learn.microsoft.com/cli/azure/install-azure-cli"
az account show --subscription "$AZURE_SUBSCRIPTION_ID" --output none ||
    fail "the Azure CLI can't see subscription $AZURE_SUBSCRIPTION_ID: run 'az login' (azd's own login is another one)."

app="/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP/providers/Microsoft.Web/sites/$AZURE_FUNCTION_APP_NAME"
deployed="$(az rest --method get --url "$app/functions?api-version=2025-03-01" --query 'length(value)' --output tsv 2>/dev/null)"
case "$deployed" in
[1-9]*) exit 0 ;;
esac

# What the app has noted before this says nothing of this deployment: postdeploy.sh.
azd env set BLOBSIGHT_DEPLOYED_AT "$(date -u +%Y-%m-%dT%H:%M:%S)" --environment "${AZURE_ENV_NAME:-}" --no-prompt \
    >/dev/null 2>&1

attempts="${BLOBSIGHT_HOOK_ATTEMPTS:-30}"
pause="${BLOBSIGHT_HOOK_PAUSE_SECONDS:-10}"
attempt=0
counted=0
while [ "$attempt" -lt "$attempts" ]; do
    attempt=$((attempt + 1))
    if az storage blob list --auth-mode login --account-name "$AZURE_STORAGE_ACCOUNT_NAME" \
        --container-name "$BLOBSIGHT_INPUT_CONTAINER" --num-results 1 --output none 2>/dev/null; then
        # Three times in a row: a role counts on one of the storage service's machines before it does on another.
        counted=$((counted + 1))
        if [ "$counted" -ge 3 ]; then
            echo "The new roles count."
            exit 0
        fi
    else
        counted=0
    fi
    echo "Waiting for the new roles to count ($attempt of $attempts) ..."
    sleep "$pause"
done
echo "Whether the new roles count could not be seen from here within $((attempts * pause)) s, so the deployment goes on."
echo "If it is refused (InaccessibleStorageException), run 'azd deploy' again after some minutes."
