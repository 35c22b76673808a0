metadata description = 'Everything in one resource group. Deployable alone, by people who own no more than a group.'

targetScope = 'resourceGroup'

@description('The environment\'s name: part of names and tags.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Region of everything but Azure OpenAI.')
param location string = resourceGroup().location

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
@allowed([
  512
  2048
  4096
])
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

var token = uniqueString(resourceGroup().id, environmentName) // 13 characters
var allTags = union(tags, {
  'azd-env-name': environmentName
})

var deploymentContainer = 'deployments'
var stateContainer = 'pipeline-state'
var deadLetterContainer = 'dead-letters'
var requestsQueue = 'analysis-requests'
var deferredQueue = 'deferred-work'

// The host moves a message that failed five times onto the queue's poison queue; the blob trigger's is named by the host.
var queues = [
  requestsQueue
  '${requestsQueue}-poison'
  deferredQueue // the app's own: nobody else is given a role on it
  '${deferredQueue}-poison'
  'webjobs-blobtrigger-poison'
]

var isolated = hardened || networkIsolation
var delivery = hardened ? 'queue' : eventDelivery

var openAiIsNew = empty(existingOpenAiName)
var openAiName = openAiIsNew ? 'oai-blobsight-${token}' : existingOpenAiName
var openAiResourceGroup = openAiIsNew || empty(existingOpenAiResourceGroup)
  ? resourceGroup().name
  : existingOpenAiResourceGroup

var batches = !empty(batchDeploymentName)
// Whoever keeps the computing in a data zone keeps that of batches there, too.
var batchSkuOfModel = modelSku == 'DataZoneStandard' ? 'DataZoneBatch' : 'GlobalBatch'

var networkName = 'vnet-blobsight-${token}'
var applicationInsightsName = 'appi-blobsight-${token}'
var dnsZones = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  openAi: 'privatelink.openai.azure.com'
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: 'id-blobsight-${token}'
    location: location
    tags: allTags
  }
}

module deploymentIdentity 'modules/identity.bicep' = {
  name: 'deployment-identity'
  params: {
    name: 'id-blobsight-deployment-${token}'
    location: location
    tags: allTags
  }
}

module hostStorage 'modules/storage-host.bicep' = {
  name: 'storage-host'
  params: {
    name: 'sthost${token}'
    location: location
    tags: allTags
    sku: storageSku
    softDeleteDays: softDeleteDays
    copiesWithinTenant: hardened
    networkIsolation: isolated
    allowedIpRanges: allowedIpRanges
  }
}

module codeStorage 'modules/storage-code.bicep' = {
  name: 'storage-code'
  params: {
    name: 'stcode${token}'
    location: location
    tags: allTags
    sku: storageSku
    deploymentContainer: deploymentContainer
    softDeleteDays: softDeleteDays
    copiesWithinTenant: hardened
    networkIsolation: isolated
    allowedIpRanges: allowedIpRanges
  }
}

module dataStorage 'modules/storage-data.bicep' = {
  name: 'storage-data'
  params: {
    name: 'stdata${token}'
    location: location
    tags: allTags
    sku: storageSku
    inputContainer: inputContainer
    outputContainer: outputContainer
    trialsContainer: trialsContainer
    stateContainer: stateContainer
    deadLetterContainer: deadLetterContainer
    instructionsContainer: instructionsContainer
    queues: queues
    softDeleteDays: softDeleteDays
    versionDays: versionDays
    keepDays: keepDays
    immutableDays: immutableDays
    copiesWithinTenant: hardened
    networkIsolation: isolated
    allowedIpRanges: allowedIpRanges
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    workspaceName: 'log-blobsight-${token}'
    applicationInsightsName: applicationInsightsName
    location: location
    tags: allTags
    retentionDays: logRetentionDays
    dailyQuotaGb: logDailyQuotaGb
  }
}

module openAi 'modules/openai.bicep' = if (openAiIsNew) {
  name: 'openai'
  params: {
    name: openAiName
    location: empty(openAiLocation) ? location : openAiLocation
    tags: allTags
    deploymentName: modelDeploymentName
    modelName: modelName
    modelVersion: modelVersion
    modelSku: modelSku
    modelCapacity: modelCapacity
    batchDeploymentName: batchDeploymentName
    batchSku: empty(batchSku) ? batchSkuOfModel : batchSku
    batchCapacity: batchCapacity
    networkIsolation: isolated
  }
}

module openAiAccess 'modules/openai-access.bicep' = {
  name: 'openai-access-${token}'
  scope: resourceGroup(openAiResourceGroup)
  params: {
    accountName: openAiName
    appPrincipalId: identity.outputs.principalId
    customRoles: customRoles
    batches: batches
  }
  dependsOn: [
    openAi
  ]
}

module topic 'modules/event-grid.bicep' = {
  name: 'event-grid'
  params: {
    name: empty(systemTopicName) ? 'evgt-blobsight-${token}' : systemTopicName
    location: location
    tags: allTags
    dataStorageId: dataStorage.outputs.id
    workspaceId: monitoring.outputs.workspaceId
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  params: {
    hostStorageName: hostStorage.outputs.name
    codeStorageName: codeStorage.outputs.name
    deploymentContainer: deploymentContainer
    dataStorageName: dataStorage.outputs.name
    applicationInsightsName: applicationInsightsName
    inputContainer: inputContainer
    outputContainer: outputContainer
    trialsContainer: trialsContainer
    stateContainer: stateContainer
    deadLetterContainer: deadLetterContainer
    instructionsContainer: instructionsContainer
    requestsQueue: requestsQueue
    appQueues: queues
    appPrincipalId: identity.outputs.principalId
    deploymentPrincipalId: deploymentIdentity.outputs.principalId
    customRoles: customRoles
    eventGridPrincipalId: topic.outputs.principalId
    userPrincipalId: userPrincipalId
    userPrincipalType: userPrincipalType
  }
}

var storageEndpoints = [
  {
    name: 'pe-host-blob-${token}'
    resourceId: hostStorage.outputs.id
    groupId: 'blob'
    dnsZone: dnsZones.blob
  }
  {
    name: 'pe-host-queue-${token}'
    resourceId: hostStorage.outputs.id
    groupId: 'queue'
    dnsZone: dnsZones.queue
  }
  {
    name: 'pe-host-table-${token}'
    resourceId: hostStorage.outputs.id
    groupId: 'table'
    dnsZone: dnsZones.table
  }
  {
    name: 'pe-code-blob-${token}'
    resourceId: codeStorage.outputs.id
    groupId: 'blob'
    dnsZone: dnsZones.blob
  }
  {
    name: 'pe-data-blob-${token}'
    resourceId: dataStorage.outputs.id
    groupId: 'blob'
    dnsZone: dnsZones.blob
  }
  {
    name: 'pe-data-queue-${token}'
    resourceId: dataStorage.outputs.id
    groupId: 'queue'
    dnsZone: dnsZones.queue
  }
]

// An existing account's network is its owner's business.
var openAiEndpoints = [
  {
    name: 'pe-openai-${token}'
    resourceId: openAiAccess.outputs.accountId
    groupId: 'account'
    dnsZone: dnsZones.openAi
  }
]

module network 'modules/network.bicep' = if (isolated) {
  name: 'network'
  params: {
    name: networkName
    location: location
    tags: allTags
    addressPrefix: '10.83.0.0/24'
    appSubnetPrefix: '10.83.0.0/26'
    endpointSubnetPrefix: '10.83.0.64/26'
    // Where tokens come from, where telemetry goes, and an account of somebody else's, which may be on the public network.
    outboundTags: hardened
      ? concat(['AzureActiveDirectory', 'AzureMonitor'], openAiIsNew ? [] : ['CognitiveServicesManagement'])
      : []
    dnsZones: concat(
      [
        dnsZones.blob
        dnsZones.queue
        dnsZones.table
      ],
      openAiIsNew ? [dnsZones.openAi] : []
    )
    endpoints: concat(storageEndpoints, openAiIsNew ? openAiEndpoints : [])
  }
}

module app 'modules/function-app.bicep' = {
  name: 'function-app'
  params: {
    planName: 'plan-blobsight-${token}'
    name: 'func-blobsight-${token}'
    location: location
    tags: allTags
    serviceName: 'pipeline'
    pythonVersion: '3.13'
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    deploymentIdentityId: deploymentIdentity.outputs.id
    hostStorageName: hostStorage.outputs.name
    deploymentContainerUrl: codeStorage.outputs.deploymentContainerUrl
    applicationInsightsConnectionString: monitoring.outputs.applicationInsightsConnectionString
    pipelineSettings: union(
      {
        // A quarter of the instance's memory, and conversions take twice that. Of 512 MB an eighth: host and worker need more
        // than the last quarter.
        // Larger bodies are refused by the host, before it reads them; MAX_IMAGE_BYTES is the app's own limit.
        FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '52428800'
        // Of an account that was there before it is not known; BLOBSIGHT_SETTINGS may say it.
        AZURE_OPENAI_MODEL: openAiIsNew ? modelName : ''
        IMAGE_MEMORY_BYTES: string(instanceMemoryMB * (instanceMemoryMB > 512 ? 262144 : 131072))
      },
      pipelineSettings,
      empty(instructionsContainer)
        ? {}
        : {
            INSTRUCTIONS_CONTAINER: instructionsContainer
          },
      batches
        ? {
            BATCH_DEPLOYMENT: batchDeploymentName
          }
        : {},
      {
        INPUT_CONTAINER: inputContainer
        OUTPUT_CONTAINER: outputContainer
        TRIALS_CONTAINER: trialsContainer
        STATE_CONTAINER: stateContainer
        DEAD_LETTER_CONTAINER: deadLetterContainer
        REQUESTS_QUEUE: requestsQueue
        DEFERRED_QUEUE: deferredQueue
        DataStorage__blobServiceUri: dataStorage.outputs.blobEndpoint
        DataStorage__queueServiceUri: dataStorage.outputs.queueEndpoint
        AZURE_OPENAI_ENDPOINT: openAiAccess.outputs.endpoint
        AZURE_OPENAI_DEPLOYMENT: modelDeploymentName
        PROCESS_IMAGE_ENABLED: processImageEnabled ? 'true' : 'false'
      }
    )
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    alwaysReadyFor: delivery == 'webhook' ? 'blob' : 'function:analyze_request'
    subnetId: isolated ? resourceId('Microsoft.Network/virtualNetworks/subnets', networkName, 'app') : ''
    inboundRestricted: isolated
    admitsEventGrid: delivery == 'webhook'
    allowedIpRanges: allowedIpRanges
  }
  dependsOn: [
    roles
    network
  ]
}

// Logs of who did what. An existing account's are its owner's business.
module audit 'modules/audit.bicep' = if (hardened) {
  name: 'audit'
  params: {
    workspaceName: 'log-blobsight-audit-${token}'
    location: location
    tags: allTags
    retentionDays: logRetentionDays
    dataStorageName: dataStorage.outputs.name
    codeStorageName: codeStorage.outputs.name
    functionAppName: app.outputs.name
    openAiName: openAiIsNew ? openAiName : ''
  }
  dependsOn: [
    openAi
  ]
}

module budget 'modules/budget.bicep' = if (monthlyBudget > 0) {
  name: 'budget'
  params: {
    name: 'budget-blobsight-${token}'
    amount: monthlyBudget
    startDate: empty(budgetFrom)
      ? fail('monthlyBudget needs budgetFrom (BLOBSIGHT_BUDGET_FROM): the first day of this month, such as 2026-11-01.')
      : budgetFrom
    email: empty(alertEmail) ? fail('monthlyBudget needs alertEmail (BLOBSIGHT_ALERT_EMAIL): who is told.') : alertEmail
  }
}

module alerts 'modules/alerts.bicep' = if (hardened || alertsEnabled) {
  name: 'alerts'
  params: {
    prefix: 'blobsight-${token}'
    location: location
    tags: allTags
    email: hardened && empty(alertEmail)
      ? fail('hardened needs alertEmail (BLOBSIGHT_ALERT_EMAIL): an alert that nobody gets is none.')
      : alertEmail
    applicationInsightsId: monitoring.outputs.applicationInsightsId
    topicId: topic.outputs.id
    openAiId: openAiAccess.outputs.accountId
    modelDeploymentName: modelDeploymentName
    batches: batches
    failedResultsThreshold: failedResultsThreshold
    throttledCallsThreshold: throttledCallsThreshold
  }
}

@description('Name of the function app.')
output AZURE_FUNCTION_APP_NAME string = app.outputs.name

@description('Name of the data storage account.')
output AZURE_STORAGE_ACCOUNT_NAME string = dataStorage.outputs.name

@description('Address of the data account\'s blob service.')
output AZURE_STORAGE_BLOB_ENDPOINT string = dataStorage.outputs.blobEndpoint

@description('Address of the data account\'s queue service.')
output AZURE_STORAGE_QUEUE_ENDPOINT string = dataStorage.outputs.queueEndpoint

@description('Container where images are dropped.')
output BLOBSIGHT_INPUT_CONTAINER string = inputContainer

@description('Container where results appear.')
output BLOBSIGHT_OUTPUT_CONTAINER string = outputContainer

@description('Container of trials and evaluations.')
output BLOBSIGHT_TRIALS_CONTAINER string = trialsContainer

@description('Queue of requests, and of events when they are delivered by queue.')
output BLOBSIGHT_REQUESTS_QUEUE string = requestsQueue

@description('Container of the pipeline\'s own notes, readiness.json among them.')
output BLOBSIGHT_STATE_CONTAINER string = stateContainer

@description('Container of events that could not be delivered.')
output BLOBSIGHT_DEAD_LETTER_CONTAINER string = deadLetterContainer

@description('Name of the Event Grid system topic.')
output AZURE_EVENT_GRID_TOPIC_NAME string = topic.outputs.name

@description('How Event Grid delivers.')
output AZURE_EVENT_DELIVERY string = delivery

@description('Address of the Azure OpenAI account.')
output AZURE_OPENAI_ENDPOINT string = openAiAccess.outputs.endpoint

@description('Name of the model deployment.')
output AZURE_OPENAI_DEPLOYMENT string = modelDeploymentName
