metadata description = 'Blobsight: a resource group with everything in it. See docs/deploy.md.'

targetScope = 'subscription'

@description('Name of the resource group.')
@minLength(1)
@maxLength(90)
param resourceGroupName string = 'rg-${environmentName}'

@description('The environment\'s name: part of names and tags.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Region of everything but Azure OpenAI.')
@metadata({
  azd: {
    type: 'location'
  }
})
param location string

@description('Tags of every resource.')
param tags { *: string } = {}

@description('Object id of the user, group or service principal that drops images and reads results. Empty for none.')
param userPrincipalId string = ''

@description('What userPrincipalId is.')
@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param userPrincipalType string = 'User'

@description('Container where images are dropped.')
@minLength(3)
@maxLength(63)
param inputContainer string = 'images'

@description('Container where results appear.')
@minLength(3)
@maxLength(63)
param outputContainer string = 'results'

@description('Container of trials and evaluations: see docs/trust.md. No event reaches the app from it.')
@minLength(3)
@maxLength(63)
param trialsContainer string = 'trials'

@description('Container of instructions that uploaders can\'t write: see docs/trust.md. Empty for none: instructions lie beside the images.')
@maxLength(63)
param instructionsContainer string = ''

@description('How Event Grid delivers: to the app\'s webhook, whose key is part of the subscription, or to a queue, with no key anywhere.')
@allowed([
  'webhook'
  'queue'
])
param eventDelivery string = 'webhook'

@description('Name of the topic of the data account. Only to be set when Azure has made one already: an account has at most one.')
param systemTopicName string = ''

@description('Redundancy of the storage accounts.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param storageSku string = 'Standard_LRS'

@description('For how many days deleted blobs and containers can be brought back.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 7

@description('After how many days an overwritten version of an image or a result, or of a blob in the trials container, is deleted.')
@minValue(1)
param versionDays int = 30

@description('After how many days without a change images, results and what is in the trials container are deleted. 0 keeps them.')
@minValue(0)
param keepDays int = 0

@description('For how many days a version of a result can be neither changed nor deleted, by anybody. 0: no such policy. Only for a new environment.')
@minValue(0)
param immutableDays int = 0

@description('Region of Azure OpenAI; empty for that of everything else. Not every model is in every region.')
param openAiLocation string = ''

@description('Name of an Azure OpenAI account that is there already, with its deployment; empty for a new one.')
param existingOpenAiName string = ''

@description('Resource group of the existing account; empty for this one.')
param existingOpenAiResourceGroup string = ''

@description('Name of the model deployment, new or existing.')
@minLength(2)
@maxLength(64)
param modelDeploymentName string = 'vision'

@description('Name of the model: one that takes images.')
param modelName string = 'gpt-5.6-luna'

@description('Version of the model. infra/model.json says until when it is served, and why it was chosen.')
param modelVersion string = '2026-07-09'

@description('Where an image may be computed: anywhere in the world, or in the data zone (EU or US) of the account\'s region. Provisioned throughput is for existing accounts only: it is paid by the hour, used or not.')
@allowed([
  'GlobalStandard'
  'DataZoneStandard'
])
param modelSku string = 'GlobalStandard'

@description('Thousands of tokens per minute.')
@minValue(1)
param modelCapacity int = 50

@description('Name of a second deployment of the model, which answers in batches at half price. Empty for none: the tier batch is refused then.')
@maxLength(64)
param batchDeploymentName string = ''

@description('Where an image of a batch may be computed: GlobalBatch is anywhere in the world, DataZoneBatch the data zone of the account\'s region. Empty for the one that goes with modelSku.')
@allowed([
  ''
  'GlobalBatch'
  'DataZoneBatch'
])
param batchSku string = ''

@description('Thousands of input tokens that may be in batches at a time.')
@minValue(1)
param batchCapacity int = 10000

@description('Whether the 2024 tutorial\'s HTTP function is there.')
param processImageEnabled bool = false

@description('More settings of the pipeline, such as { DEFAULT_INSTRUCTIONS: \'…\' }: see docs/settings.md. Their values are strings. Those that say where things are can\'t be changed here.')
param pipelineSettings { *: string } = {}

@description('Memory of an instance in megabytes: 512, 2048 or 4096. It decides the CPU share, too.')
param instanceMemoryMB int = 2048

@description('Ceiling on instances, for each group of functions that scales by itself. Some regions refuse less than 40.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances that are always up for uploads; paid even when idle.')
@minValue(0)
param alwaysReadyInstances int = 0

@description('The hardened profile: see docs/trust.md. It includes networkIsolation, delivery by queue and alerts, for which it needs alertEmail.')
param hardened bool = false

@description('Whether the app gets roles of its own making, which allow what it does and no more. Whoever deploys then has to be Owner or User Access Administrator.')
param customRoles bool = false

@description('Whether storage and a new Azure OpenAI account are reached over private endpoints in a virtual network of their own.')
param networkIsolation bool = false

@description('Public IP addresses and ranges (CIDR) that reach the storage accounts in spite of networkIsolation: those of people who drop images and read results.')
param allowedIpRanges string[] = []

@description('For how many days logs are kept; the first 31 are free.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Gigabytes of logs a day after which no more are taken, as a brake on cost; -1 for no limit.')
@minValue(-1)
param logDailyQuotaGb int = 1

@description('Whether alerts are set up.')
param alertsEnabled bool = true

@description('Who gets an e-mail for an alert; empty for none: alerts are seen in the portal then.')
param alertEmail string = ''

@description('A month\'s cost of this resource group, in the currency of the subscription, of which alertEmail is told. 0 for no budget.')
@minValue(0)
param monthlyBudget int = 0

@description('First day of the month that the budget begins in, such as 2026-11-01. It can\'t be changed later.')
param budgetFrom string = ''

@description('Failed results in 15 minutes that are too many.')
@minValue(0)
param failedResultsThreshold int = 10

@description('Throttled model calls in 15 minutes that are too many. Some are normal: the pipeline waits and goes on.')
@minValue(0)
param throttledCallsThreshold int = 100

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: resourceGroupName
  location: location
  tags: union(tags, {
    'azd-env-name': environmentName
  })
}

module resources 'resources.bicep' = {
  name: 'blobsight'
  scope: group
  params: {
    environmentName: environmentName
    location: location
    tags: tags
    userPrincipalId: userPrincipalId
    userPrincipalType: userPrincipalType
    inputContainer: inputContainer
    outputContainer: outputContainer
    trialsContainer: trialsContainer
    instructionsContainer: instructionsContainer
    eventDelivery: eventDelivery
    systemTopicName: systemTopicName
    storageSku: storageSku
    softDeleteDays: softDeleteDays
    versionDays: versionDays
    keepDays: keepDays
    immutableDays: immutableDays
    openAiLocation: openAiLocation
    existingOpenAiName: existingOpenAiName
    existingOpenAiResourceGroup: existingOpenAiResourceGroup
    modelDeploymentName: modelDeploymentName
    modelName: modelName
    modelVersion: modelVersion
    modelSku: modelSku
    modelCapacity: modelCapacity
    batchDeploymentName: batchDeploymentName
    batchSku: batchSku
    batchCapacity: batchCapacity
    processImageEnabled: processImageEnabled
    pipelineSettings: pipelineSettings
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    hardened: hardened
    customRoles: customRoles
    networkIsolation: networkIsolation
    allowedIpRanges: allowedIpRanges
    logRetentionDays: logRetentionDays
    logDailyQuotaGb: logDailyQuotaGb
    alertsEnabled: alertsEnabled
    alertEmail: alertEmail
    monthlyBudget: monthlyBudget
    budgetFrom: budgetFrom
    failedResultsThreshold: failedResultsThreshold
    throttledCallsThreshold: throttledCallsThreshold
  }
}

@description('Region.')
output AZURE_LOCATION string = location

@description('Tenant.')
output AZURE_TENANT_ID string = tenant().tenantId

@description('Name of the resource group.')
output AZURE_RESOURCE_GROUP string = group.name

@description('Name of the function app.')
output AZURE_FUNCTION_APP_NAME string = resources.outputs.AZURE_FUNCTION_APP_NAME

@description('Name of the data storage account.')
output AZURE_STORAGE_ACCOUNT_NAME string = resources.outputs.AZURE_STORAGE_ACCOUNT_NAME

@description('Address of the data account\'s blob service.')
output AZURE_STORAGE_BLOB_ENDPOINT string = resources.outputs.AZURE_STORAGE_BLOB_ENDPOINT

@description('Address of the data account\'s queue service.')
output AZURE_STORAGE_QUEUE_ENDPOINT string = resources.outputs.AZURE_STORAGE_QUEUE_ENDPOINT

@description('Container where images are dropped.')
output BLOBSIGHT_INPUT_CONTAINER string = resources.outputs.BLOBSIGHT_INPUT_CONTAINER

@description('Container where results appear.')
output BLOBSIGHT_OUTPUT_CONTAINER string = resources.outputs.BLOBSIGHT_OUTPUT_CONTAINER

@description('Container of trials and evaluations.')
output BLOBSIGHT_TRIALS_CONTAINER string = resources.outputs.BLOBSIGHT_TRIALS_CONTAINER

@description('Queue of requests, and of events when they are delivered by queue.')
output BLOBSIGHT_REQUESTS_QUEUE string = resources.outputs.BLOBSIGHT_REQUESTS_QUEUE

@description('Container of the pipeline\'s own notes, readiness.json among them.')
output BLOBSIGHT_STATE_CONTAINER string = resources.outputs.BLOBSIGHT_STATE_CONTAINER

@description('Container of events that could not be delivered.')
output BLOBSIGHT_DEAD_LETTER_CONTAINER string = resources.outputs.BLOBSIGHT_DEAD_LETTER_CONTAINER

@description('Name of the Event Grid system topic.')
output AZURE_EVENT_GRID_TOPIC_NAME string = resources.outputs.AZURE_EVENT_GRID_TOPIC_NAME

@description('How Event Grid delivers.')
output AZURE_EVENT_DELIVERY string = resources.outputs.AZURE_EVENT_DELIVERY

@description('Address of the Azure OpenAI account.')
output AZURE_OPENAI_ENDPOINT string = resources.outputs.AZURE_OPENAI_ENDPOINT

@description('Name of the model deployment.')
output AZURE_OPENAI_DEPLOYMENT string = resources.outputs.AZURE_OPENAI_DEPLOYMENT
