# Sends the data account's events to the deployed pipeline: waits for the webhook's key, and before the first subscription
# for the app's own record that it reads images and writes results; then deploys infra/bicep/event-subscription.bicep. An
# event that comes while the app may not look at the upload yet stops its whole host. azd runs it after each deployment;
# 'azd hooks run postdeploy' runs it again.
# The key itself never comes here: Azure is only asked whether it is there. Keep it in step with postdeploy.sh.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false  # exit codes are looked at below
Set-Location (Join-Path $PSScriptRoot '../..')

function Stop-Hook([string] $Message) {
    [Console]::Error.WriteLine("error: $Message")
    [Console]::Error.WriteLine('The pipeline is deployed, but NO EVENTS REACH IT YET: images that are dropped wait an hour for the reconciliation.')
    [Console]::Error.WriteLine("Once that is fixed, run 'azd hooks run postdeploy'. More: docs/deploy.md, `"When something goes wrong`".")
    exit 1
}

foreach ($name in 'AZURE_SUBSCRIPTION_ID', 'AZURE_RESOURCE_GROUP', 'AZURE_FUNCTION_APP_NAME', 'AZURE_STORAGE_ACCOUNT_NAME',
    'AZURE_EVENT_GRID_TOPIC_NAME', 'AZURE_EVENT_DELIVERY', 'BLOBSIGHT_INPUT_CONTAINER', 'BLOBSIGHT_OUTPUT_CONTAINER',
    'BLOBSIGHT_STATE_CONTAINER', 'BLOBSIGHT_REQUESTS_QUEUE', 'BLOBSIGHT_DEAD_LETTER_CONTAINER') {
    if (-not [Environment]::GetEnvironmentVariable($name)) {
        Stop-Hook "$name is not set: it is an output of infra/bicep/main.bicep. Run 'azd provision' first."
    }
}
if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
    Stop-Hook 'the Azure CLI (az) is not installed: https://learn.microsoft.com/cli/azure/install-azure-cli'
}
az account show --subscription $env:AZURE_SUBSCRIPTION_ID --output none
if ($LASTEXITCODE -ne 0) {
    Stop-Hook "the Azure CLI can't see subscription ${env:AZURE_SUBSCRIPTION_ID}: run 'az login' (azd's own login is another one)."
}

$group = "/subscriptions/$env:AZURE_SUBSCRIPTION_ID/resourceGroups/$env:AZURE_RESOURCE_GROUP/providers"
$app = "$group/Microsoft.Web/sites/$env:AZURE_FUNCTION_APP_NAME"
$subscriptions = "$group/Microsoft.EventGrid/systemTopics/$env:AZURE_EVENT_GRID_TOPIC_NAME/eventSubscriptions"
$attempts = if ($env:BLOBSIGHT_HOOK_ATTEMPTS) { [int] $env:BLOBSIGHT_HOOK_ATTEMPTS } else { 60 }
$pause = if ($env:BLOBSIGHT_HOOK_PAUSE_SECONDS) { [int] $env:BLOBSIGHT_HOOK_PAUSE_SECONDS } else { 10 }
$script:problem = ''

function Test-Key {
    $output = az rest --method post --url "$app/host/default/listkeys?api-version=2025-03-01" --output json `
        --query 'contains(keys(not_null(systemKeys, `{}`)), ''blobs_extension'')' 2>&1
    $failed = $LASTEXITCODE -ne 0
    # A warning of the Azure CLI is no part of its answer.
    $problems, $answer = @($output).Where({ $_ -is [Management.Automation.ErrorRecord] }, 'Split')
    $script:problem = ($problems | Select-Object -First 3) -join "`n"
    return -not $failed -and "$answer".Trim() -eq 'true'
}

if ($env:AZURE_EVENT_DELIVERY -eq 'webhook') {
    $attempt = 1
    while (-not (Test-Key)) {
        if ($attempt -ge $attempts) {
            if ($script:problem) { [Console]::Error.WriteLine($script:problem) }
            Stop-Hook "$env:AZURE_FUNCTION_APP_NAME has no webhook key (blobs_extension) after $attempts looks, $pause s apart: its code has not started. A wrong setting stops the start: see the app's log stream in the portal."
        }
        Write-Host "Waiting for $env:AZURE_FUNCTION_APP_NAME to start: no webhook key yet ($attempt of $attempts) ..."
        $attempt++
        Start-Sleep -Seconds $pause
    }
    $other = 'queue'
} else {
    $other = 'webhook'
}

function Test-Subscription([string] $Delivery) {
    $output = az resource show --ids "$subscriptions/analyze-image-$Delivery" --api-version 2025-02-15 --output none 2>&1
    $failed = $LASTEXITCODE -ne 0
    $script:problem = if ($failed) { $output -join "`n" } else { '' }
    return -not $failed
}

# What the app's record says of a name: true, false or a text without quotes. Nothing if it is not there.
function Get-Said([string] $Name) {
    if ($script:text -match "`"$Name`" *: *`"?([^`",}]*)") { return $Matches[1] }
    return ''
}

# Sets found: ready, waiting (why is told by $why) or hidden, where the record can't be seen from here.
function Find-Record {
    $output = az storage blob download --auth-mode login --account-name $env:AZURE_STORAGE_ACCOUNT_NAME `
        --container-name $env:BLOBSIGHT_STATE_CONTAINER --name readiness.json --file $record --no-progress `
        --output none 2>&1
    if ($LASTEXITCODE -eq 0) {
        $script:text = (Get-Content -Raw -LiteralPath $record) -replace '[\r\n]', ''
        $checked = "$(Get-Said 'checked_at')".PadRight(19).Substring(0, 19).Trim()
        $script:found = 'waiting'
        if ([string]::CompareOrdinal($checked, $script:since) -lt 0) {
            $script:why = 'its record is older than this deployment'
        } elseif ("$(Get-Said 'read_input') $(Get-Said 'write_results') $(Get-Said 'queue')" -eq 'true true true') {
            $script:found = 'ready'
        } else {
            $problems = if ($script:text -match '"problems" *: *\[([^\]]*)') { $Matches[1] } else { '' }
            $script:why = "the app reports: $($problems.Substring(0, [Math]::Min(300, $problems.Length)))"
        }
    } elseif ("$output" -match 'notfound|does not exist') {
        $script:found = 'waiting'
        $script:why = 'it has no record yet'
    } else {
        $script:found = 'hidden'
        $script:why = "its record can't be seen from here"
    }
}

# The app writes the record when it starts, and every five minutes until all of it works.
function Wait-UntilReady {
    $script:since = "$env:BLOBSIGHT_DEPLOYED_AT"  # from predeploy.ps1
    for ($attempt = 1; ; $attempt++) {
        Find-Record
        if ($script:found -eq 'ready') { return }
        if ($script:found -eq 'hidden' -and $attempt -ge $attempts) {
            Write-Host "Whether $env:AZURE_FUNCTION_APP_NAME may read and write could not be seen from here within $($attempts * $pause) s (a firewall, or no data role for you). By now new roles count, so it gets its events."
            Write-Host "If results don't appear, 'blobsight doctor' says why; 'azd hooks run postdeploy' runs this again."
            return
        }
        if ($attempt -ge $attempts * 2) {
            Stop-Hook "$env:AZURE_FUNCTION_APP_NAME has not shown within $($attempts * 2 * $pause) s that it reads '$env:BLOBSIGHT_INPUT_CONTAINER' and writes '$env:BLOBSIGHT_OUTPUT_CONTAINER': $script:why. 'blobsight doctor' and the app's log stream say more."
        }
        Write-Host "Waiting for $env:AZURE_FUNCTION_APP_NAME to show that it reads images and writes results: $script:why ($attempt of $($attempts * 2)) ..."
        Start-Sleep -Seconds $pause
    }
}

if (-not (Test-Subscription $env:AZURE_EVENT_DELIVERY) -and -not (Test-Subscription $other)) {
    $record = [IO.Path]::GetTempFileName()
    try { Wait-UntilReady } finally { Remove-Item -LiteralPath $record -ErrorAction SilentlyContinue }
}

Write-Host "Subscribing the pipeline to uploads, by $env:AZURE_EVENT_DELIVERY ..."
# The handshake fails while the app starts, and a role takes minutes to count everywhere.
for ($attempt = 1; ; $attempt++) {
    az deployment group create --subscription $env:AZURE_SUBSCRIPTION_ID --resource-group $env:AZURE_RESOURCE_GROUP `
        --name event-subscription --template-file infra/bicep/event-subscription.bicep --output none --parameters `
        "systemTopicName=$env:AZURE_EVENT_GRID_TOPIC_NAME" "dataStorageName=$env:AZURE_STORAGE_ACCOUNT_NAME" `
        "functionAppName=$env:AZURE_FUNCTION_APP_NAME" "eventDelivery=$env:AZURE_EVENT_DELIVERY" `
        "inputContainer=$env:BLOBSIGHT_INPUT_CONTAINER" "requestsQueue=$env:BLOBSIGHT_REQUESTS_QUEUE" `
        "deadLetterContainer=$env:BLOBSIGHT_DEAD_LETTER_CONTAINER"
    if ($LASTEXITCODE -eq 0) { break }
    if ($attempt -ge 3) {
        Stop-Hook "deploying infra/bicep/event-subscription.bicep failed $attempt times; the last error is above."
    }
    Write-Warning "That failed (attempt $attempt of 3); trying again in $($pause * 3) s ..."
    Start-Sleep -Seconds ($pause * 3)
}

# After a change of eventDelivery the old way would deliver everything a second time.
if (Test-Subscription $other) {
    Write-Host "Removing the subscription that delivered by $other ..."
    az resource delete --ids "$subscriptions/analyze-image-$other" --api-version 2025-02-15 --output none
    if ($LASTEXITCODE -ne 0) {
        Stop-Hook "the old subscription analyze-image-$other could not be removed: delete it in the portal."
    }
} elseif ($script:problem -notmatch 'not ?found') {
    [Console]::Error.WriteLine($script:problem)
    Stop-Hook "whether an old subscription analyze-image-$other is left could not be found out."
}
Write-Host "Done: drop an image into '$env:BLOBSIGHT_INPUT_CONTAINER' of $env:AZURE_STORAGE_ACCOUNT_NAME."
