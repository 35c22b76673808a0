metadata description = 'Who may do what in this resource group: all role assignments but the one on Azure OpenAI.'

@description('Name of the host\'s storage account.')
param hostStorageName string

@description('Name of the data storage account.')
param dataStorageName string

@description('Name of the Application Insights component.')
param applicationInsightsName string

@description('Container where images are dropped.')
param inputContainer string

@description('Container where results appear.')
param outputContainer string

@description('Container of the pipeline\'s own notes.')
param stateContainer string

@description('Container of events that could not be delivered.')
param deadLetterContainer string

@description('Queue of what others ask for.')
param requestsQueue string

@description('Object id of the function app\'s identity.')
param appPrincipalId string

@description('Object id of the Event Grid topic\'s identity.')
param eventGridPrincipalId string

@description('Object id of the user, group or service principal that drops images and reads results. Empty for none.')
param userPrincipalId string

@description('What userPrincipalId is.')
param userPrincipalType string

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var storageBlobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var storageBlobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var storageBlobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var storageQueueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var storageQueueDataMessageSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
var storageTableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: hostStorageName
}

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: dataStorageName
}

resource dataBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' existing = {
  parent: dataStorage
  name: 'default'
}

resource images 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: inputContainer
}

resource results 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: outputContainer
}

resource state 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: stateContainer
}

resource deadLetters 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: deadLetterContainer
}

resource dataQueues 'Microsoft.Storage/storageAccounts/queueServices@2025-08-01' existing = {
  parent: dataStorage
  name: 'default'
}

resource requests 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-08-01' existing = {
  parent: dataQueues
  name: requestsQueue
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

// The function app. The three roles on its own storage are what an identity-based AzureWebJobsStorage needs; the two on
// the data account are what a blob trigger with an identity needs.
// https://learn.microsoft.com/azure/azure-functions/functions-reference#grant-permission-to-the-identity
var onHostStorage = [
  storageBlobDataOwner
  storageQueueDataContributor
  storageTableDataContributor
]
var onDataStorage = [
  storageBlobDataOwner
  storageQueueDataContributor
]

resource appOnHostStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in onHostStorage: {
    name: guid(hostStorage.id, appPrincipalId, role)
    scope: hostStorage
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource appOnDataStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in onDataStorage: {
    name: guid(dataStorage.id, appPrincipalId, role)
    scope: dataStorage
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource appOnApplicationInsights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(applicationInsights.id, appPrincipalId, monitoringMetricsPublisher)
  scope: applicationInsights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Event Grid: what it can't deliver goes into one container, what it delivers by queue goes onto one queue. It has that
// role with the webhook, too: one that is minutes old when the way of delivery changes would cost events.
resource eventGridOnDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(deadLetters.id, eventGridPrincipalId, storageBlobDataContributor)
  scope: deadLetters
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
    principalId: eventGridPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource eventGridOnRequests 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(requests.id, eventGridPrincipalId, storageQueueDataMessageSender)
  scope: requests
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageQueueDataMessageSender)
    principalId: eventGridPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// A person: drop images, read results, ask for a re-analysis.
resource userOnImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(images.id, userPrincipalId, storageBlobDataContributor)
  scope: images
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
    principalId: userPrincipalId
    principalType: userPrincipalType
  }
}

resource userOnResults 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(results.id, userPrincipalId, storageBlobDataReader)
  scope: results
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
    principalId: userPrincipalId
    principalType: userPrincipalType
  }
}

// The app's own record of what it can read and write, readiness.json, is in there: the hook after a deployment waits for it.
resource userOnState 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(state.id, userPrincipalId, storageBlobDataReader)
  scope: state
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
    principalId: userPrincipalId
    principalType: userPrincipalType
  }
}

resource userOnRequests 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(requests.id, userPrincipalId, storageQueueDataMessageSender)
  scope: requests
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageQueueDataMessageSender)
    principalId: userPrincipalId
    principalType: userPrincipalType
  }
}
