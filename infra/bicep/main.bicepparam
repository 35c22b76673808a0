// What azd's environment (azd env set NAME value) or the shell's says. docs/deploy.md lists the names.
// A variable that is set but empty counts as not set. With == '' rather than empty(), the compiler knows the exact value:
// a value that is not among the allowed ones is refused before anything is deployed, and the allowed ones are named.
using './main.bicep'

param resourceGroupName = readEnvironmentVariable('AZURE_RESOURCE_GROUP', '') == ''
  ? 'rg-${readEnvironmentVariable('AZURE_ENV_NAME')}'
  : readEnvironmentVariable('AZURE_RESOURCE_GROUP', '')
param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param tags = json(readEnvironmentVariable('BLOBSIGHT_TAGS', '') == ''
  ? '{}'
  : readEnvironmentVariable('BLOBSIGHT_TAGS', ''))
param userPrincipalId = readEnvironmentVariable('AZURE_PRINCIPAL_ID', '')
param userPrincipalType = readEnvironmentVariable('AZURE_PRINCIPAL_TYPE', '') == ''
  ? 'User'
  : readEnvironmentVariable('AZURE_PRINCIPAL_TYPE', '')
param inputContainer = readEnvironmentVariable('BLOBSIGHT_INPUT_CONTAINER', '') == ''
  ? 'images'
  : readEnvironmentVariable('BLOBSIGHT_INPUT_CONTAINER', '')
param outputContainer = readEnvironmentVariable('BLOBSIGHT_OUTPUT_CONTAINER', '') == ''
  ? 'results'
  : readEnvironmentVariable('BLOBSIGHT_OUTPUT_CONTAINER', '')
param trialsContainer = readEnvironmentVariable('BLOBSIGHT_TRIALS_CONTAINER', '') == ''
  ? 'trials'
  : readEnvironmentVariable('BLOBSIGHT_TRIALS_CONTAINER', '')
param instructionsContainer = readEnvironmentVariable('BLOBSIGHT_INSTRUCTIONS_CONTAINER', '')
param eventDelivery = readEnvironmentVariable('AZURE_EVENT_DELIVERY', '') == ''
  ? 'webhook'
  : readEnvironmentVariable('AZURE_EVENT_DELIVERY', '')
param systemTopicName = readEnvironmentVariable('AZURE_EVENT_GRID_EXISTING_TOPIC_NAME', '')
param storageSku = readEnvironmentVariable('BLOBSIGHT_STORAGE_SKU', '') == ''
  ? 'Standard_LRS'
  : readEnvironmentVariable('BLOBSIGHT_STORAGE_SKU', '')
param softDeleteDays = int(readEnvironmentVariable('BLOBSIGHT_SOFT_DELETE_DAYS', '') == ''
  ? '7'
  : readEnvironmentVariable('BLOBSIGHT_SOFT_DELETE_DAYS', ''))
param versionDays = int(readEnvironmentVariable('BLOBSIGHT_VERSION_DAYS', '') == ''
  ? '30'
  : readEnvironmentVariable('BLOBSIGHT_VERSION_DAYS', ''))
param keepDays = int(readEnvironmentVariable('BLOBSIGHT_KEEP_DAYS', '') == ''
  ? '0'
  : readEnvironmentVariable('BLOBSIGHT_KEEP_DAYS', ''))
param immutableDays = int(readEnvironmentVariable('BLOBSIGHT_IMMUTABLE_DAYS', '') == ''
  ? '0'
  : readEnvironmentVariable('BLOBSIGHT_IMMUTABLE_DAYS', ''))
param openAiLocation = readEnvironmentVariable('AZURE_OPENAI_LOCATION', '')
param existingOpenAiName = readEnvironmentVariable('AZURE_OPENAI_EXISTING_NAME', '')
param existingOpenAiResourceGroup = readEnvironmentVariable('AZURE_OPENAI_EXISTING_RESOURCE_GROUP', '')
param modelDeploymentName = readEnvironmentVariable('AZURE_OPENAI_DEPLOYMENT', '') == ''
  ? 'vision'
  : readEnvironmentVariable('AZURE_OPENAI_DEPLOYMENT', '')
param modelName = readEnvironmentVariable('AZURE_OPENAI_MODEL', '') == ''
  ? 'gpt-5.6-luna'
  : readEnvironmentVariable('AZURE_OPENAI_MODEL', '')
param modelVersion = readEnvironmentVariable('AZURE_OPENAI_MODEL_VERSION', '') == ''
  ? '2026-07-09'
  : readEnvironmentVariable('AZURE_OPENAI_MODEL_VERSION', '')
param modelSku = readEnvironmentVariable('AZURE_OPENAI_SKU', '') == ''
  ? 'GlobalStandard'
  : readEnvironmentVariable('AZURE_OPENAI_SKU', '')
param modelCapacity = int(readEnvironmentVariable('AZURE_OPENAI_CAPACITY', '') == ''
  ? '50'
  : readEnvironmentVariable('AZURE_OPENAI_CAPACITY', ''))
param batchDeploymentName = readEnvironmentVariable('AZURE_OPENAI_BATCH_DEPLOYMENT', '')
param batchSku = readEnvironmentVariable('AZURE_OPENAI_BATCH_SKU', '')
param batchCapacity = int(readEnvironmentVariable('AZURE_OPENAI_BATCH_CAPACITY', '') == ''
  ? '10000'
  : readEnvironmentVariable('AZURE_OPENAI_BATCH_CAPACITY', ''))
param processImageEnabled = bool(readEnvironmentVariable('PROCESS_IMAGE_ENABLED', '') == ''
  ? 'false'
  : readEnvironmentVariable('PROCESS_IMAGE_ENABLED', ''))
param pipelineSettings = json(readEnvironmentVariable('BLOBSIGHT_SETTINGS', '') == ''
  ? '{}'
  : readEnvironmentVariable('BLOBSIGHT_SETTINGS', ''))
param instanceMemoryMB = int(readEnvironmentVariable('BLOBSIGHT_INSTANCE_MEMORY_MB', '') == ''
  ? '2048'
  : readEnvironmentVariable('BLOBSIGHT_INSTANCE_MEMORY_MB', ''))
param maximumInstanceCount = int(readEnvironmentVariable('BLOBSIGHT_MAXIMUM_INSTANCES', '') == ''
  ? '40'
  : readEnvironmentVariable('BLOBSIGHT_MAXIMUM_INSTANCES', ''))
param alwaysReadyInstances = int(readEnvironmentVariable('BLOBSIGHT_ALWAYS_READY_INSTANCES', '') == ''
  ? '0'
  : readEnvironmentVariable('BLOBSIGHT_ALWAYS_READY_INSTANCES', ''))
param hardened = bool(readEnvironmentVariable('BLOBSIGHT_HARDENED', '') == ''
  ? 'false'
  : readEnvironmentVariable('BLOBSIGHT_HARDENED', ''))
param customRoles = bool(readEnvironmentVariable('BLOBSIGHT_CUSTOM_ROLES', '') == ''
  ? 'false'
  : readEnvironmentVariable('BLOBSIGHT_CUSTOM_ROLES', ''))
param networkIsolation = bool(readEnvironmentVariable('BLOBSIGHT_NETWORK_ISOLATION', '') == ''
  ? 'false'
  : readEnvironmentVariable('BLOBSIGHT_NETWORK_ISOLATION', ''))
param allowedIpRanges = json(readEnvironmentVariable('BLOBSIGHT_ALLOWED_IP_RANGES', '') == ''
  ? '[]'
  : readEnvironmentVariable('BLOBSIGHT_ALLOWED_IP_RANGES', ''))
param logRetentionDays = int(readEnvironmentVariable('BLOBSIGHT_LOG_RETENTION_DAYS', '') == ''
  ? '30'
  : readEnvironmentVariable('BLOBSIGHT_LOG_RETENTION_DAYS', ''))
param logDailyQuotaGb = int(readEnvironmentVariable('BLOBSIGHT_LOG_DAILY_QUOTA_GB', '') == ''
  ? '1'
  : readEnvironmentVariable('BLOBSIGHT_LOG_DAILY_QUOTA_GB', ''))
param alertsEnabled = bool(readEnvironmentVariable('BLOBSIGHT_ALERTS', '') == ''
  ? 'true'
  : readEnvironmentVariable('BLOBSIGHT_ALERTS', ''))
param alertEmail = readEnvironmentVariable('BLOBSIGHT_ALERT_EMAIL', '')
param monthlyBudget = int(readEnvironmentVariable('BLOBSIGHT_MONTHLY_BUDGET', '') == ''
  ? '0'
  : readEnvironmentVariable('BLOBSIGHT_MONTHLY_BUDGET', ''))
param budgetFrom = readEnvironmentVariable('BLOBSIGHT_BUDGET_FROM', '')
param failedResultsThreshold = int(readEnvironmentVariable('BLOBSIGHT_FAILED_RESULTS_THRESHOLD', '') == ''
  ? '10'
  : readEnvironmentVariable('BLOBSIGHT_FAILED_RESULTS_THRESHOLD', ''))
param throttledCallsThreshold = int(readEnvironmentVariable('BLOBSIGHT_THROTTLED_CALLS_THRESHOLD', '') == ''
  ? '100'
  : readEnvironmentVariable('BLOBSIGHT_THROTTLED_CALLS_THRESHOLD', ''))
