#!/bin/sh
# Compiles the templates with more rules than they are used with, and fails at the first warning: sh .github/bicep/check.sh
# BICEP is the compiler; without it, the one that 'az bicep install' has put into the home directory. Nothing is changed.
set -eu
cd "$(dirname "$0")/../.."
bicep="${BICEP:-$HOME/.azure/bin/bicep}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cp -R infra/bicep "$work/templates"
cp .github/bicep/bicepconfig.json "$work/templates"
cd "$work/templates"

quietly() { # runs a command; what it complains of is shown, and is a failure
    if ! "$@" >../output 2>../complaints || [ -s ../complaints ]; then
        echo "$*:" >&2
        cat ../complaints >&2
        exit 1
    fi
}

variant() { # a deployment with these variables: NAME=value ...
    echo "with $*"
    quietly env "$@" "$bicep" build-params main.bicepparam --stdout
    quietly env "$@" "$bicep" snapshot main.bicepparam --mode overwrite --location swedencentral \
        --tenant-id 00000000-0000-0000-0000-000000000001 --subscription-id 00000000-0000-0000-0000-000000000002
}

export AZURE_ENV_NAME=ci AZURE_LOCATION=swedencentral
for file in *.bicep modules/*.bicep; do
    echo "$file"
    quietly "$bicep" build "$file" --stdout
    quietly "$bicep" lint "$file"
done

variant AZURE_EVENT_DELIVERY=webhook
# Every variable that has a default, set to nothing.
# shellcheck disable=SC2046 # names without blanks
variant $(grep -o "readEnvironmentVariable('[A-Z_]*', '')" main.bicepparam | cut -d "'" -f 2 | sort -u | sed 's/$/=/')
variant AZURE_EVENT_DELIVERY=queue BLOBSIGHT_ALWAYS_READY_INSTANCES=1
variant BLOBSIGHT_NETWORK_ISOLATION=true 'BLOBSIGHT_ALLOWED_IP_RANGES=["192.0.2.0/24"]'
variant BLOBSIGHT_NETWORK_ISOLATION=true AZURE_EVENT_DELIVERY=queue
variant AZURE_OPENAI_EXISTING_NAME=theirs AZURE_OPENAI_EXISTING_RESOURCE_GROUP=rg-theirs
variant AZURE_OPENAI_SKU=DataZoneStandard AZURE_OPENAI_LOCATION=eastus2 AZURE_OPENAI_CAPACITY=300
variant AZURE_OPENAI_BATCH_DEPLOYMENT=vision-batch AZURE_OPENAI_BATCH_CAPACITY=1000
variant AZURE_OPENAI_BATCH_DEPLOYMENT=vision-batch AZURE_OPENAI_BATCH_SKU=DataZoneBatch BLOBSIGHT_CUSTOM_ROLES=true \
    AZURE_OPENAI_EXISTING_NAME=theirs AZURE_OPENAI_EXISTING_RESOURCE_GROUP=rg-theirs
variant AZURE_PRINCIPAL_ID=00000000-0000-0000-0000-000000000003 AZURE_PRINCIPAL_TYPE=ServicePrincipal \
    'BLOBSIGHT_TAGS={"team": "photos"}' 'BLOBSIGHT_SETTINGS={"MAX_CONCURRENCY": "8"}' \
    BLOBSIGHT_ALERT_EMAIL=photos@example.com BLOBSIGHT_INSTANCE_MEMORY_MB=4096 BLOBSIGHT_KEEP_DAYS=30
variant BLOBSIGHT_HARDENED=true BLOBSIGHT_CUSTOM_ROLES=true BLOBSIGHT_ALERT_EMAIL=photos@example.com \
    BLOBSIGHT_INSTRUCTIONS_CONTAINER=instructions BLOBSIGHT_IMMUTABLE_DAYS=90 \
    BLOBSIGHT_MONTHLY_BUDGET=100 BLOBSIGHT_BUDGET_FROM=2026-11-01
variant BLOBSIGHT_HARDENED=true BLOBSIGHT_ALERT_EMAIL=photos@example.com 'BLOBSIGHT_ALLOWED_IP_RANGES=["192.0.2.7"]' \
    AZURE_OPENAI_EXISTING_NAME=theirs AZURE_OPENAI_EXISTING_RESOURCE_GROUP=rg-theirs
variant BLOBSIGHT_ALERTS=false PROCESS_IMAGE_ENABLED=true BLOBSIGHT_STORAGE_SKU=Standard_ZRS

for file in *.bicep modules/*.bicep main.bicepparam; do
    cp "$file" ../before
    quietly "$bicep" format "$file"
    diff -u ../before "$file" || { echo "$file: not as 'bicep format' writes it" >&2; exit 1; }
done
