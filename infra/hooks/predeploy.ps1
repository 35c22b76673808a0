# Waits before a first deployment until the new roles count. azd uploads the package to the app, whose identity writes it to
# its storage account; with a role that is a minute old that is refused: https://github.com/Azure/azure-dev/issues/8026.
# Nobody but the app can try its role, so this tries one of the roles made with it: yours on the input container.
# azd runs it before each deployment; where code has been deployed before, it does nothing. Keep it in step with predeploy.sh.
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false  # exit codes are looked at below

function Stop-Hook([string] $Message) {
    [Console]::Error.WriteLine("error: $Message")
    [Console]::Error.WriteLine("Nothing has been deployed. Once that is fixed, run 'azd deploy'.")
    exit 1
}

foreach ($name in 'AZURE_SUBSCRIPTION_ID', 'AZURE_RESOURCE_GROUP', 'AZURE_FUNCTION_APP_NAME', 'AZURE_STORAGE_ACCOUNT_NAME',
    'BLOBSIGHT_INPUT_CONTAINER') {
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

$app = "/subscriptions/$env:AZURE_SUBSCRIPTION_ID/resourceGroups/$env:AZURE_RESOURCE_GROUP/providers/Microsoft.Web/sites/$env:AZURE_FUNCTION_APP_NAME"
$deployed = az rest --method get --url "$app/functions?api-version=2025-03-01" --query 'length(value)' --output tsv 2>$null
if ("$deployed" -match '^[1-9]') { exit 0 }

# What the app has noted before this says nothing of this deployment: postdeploy.ps1.
if (Get-Command azd -ErrorAction SilentlyContinue) {
    azd env set BLOBSIGHT_DEPLOYED_AT ([DateTime]::UtcNow.ToString('s')) --environment "$env:AZURE_ENV_NAME" --no-prompt `
        2>&1 | Out-Null
}

$attempts = if ($env:BLOBSIGHT_HOOK_ATTEMPTS) { [int] $env:BLOBSIGHT_HOOK_ATTEMPTS } else { 30 }
$pause = if ($env:BLOBSIGHT_HOOK_PAUSE_SECONDS) { [int] $env:BLOBSIGHT_HOOK_PAUSE_SECONDS } else { 10 }
$counted = 0
for ($attempt = 1; $attempt -le $attempts; $attempt++) {
    az storage blob list --auth-mode login --account-name $env:AZURE_STORAGE_ACCOUNT_NAME `
        --container-name $env:BLOBSIGHT_INPUT_CONTAINER --num-results 1 --output none 2>$null
    if ($LASTEXITCODE -eq 0) {
        # Three times in a row: a role counts on one of the storage service's machines before it does on another.
        $counted++
        if ($counted -ge 3) {
            Write-Host 'The new roles count.'
            exit 0
        }
    } else {
        $counted = 0
    }
    Write-Host "Waiting for the new roles to count ($attempt of $attempts) ..."
    Start-Sleep -Seconds $pause
}
Write-Host "Whether the new roles count could not be seen from here within $($attempts * $pause) s, so the deployment goes on."
Write-Host "If it is refused (InaccessibleStorageException), run 'azd deploy' again after some minutes."
exit 0
