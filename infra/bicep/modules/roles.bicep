metadata description = 'Who may do what in this resource group: all role assignments but those on queues and on Azure OpenAI.'

@description('Name of the host\'s storage account.')
param hostStorageName string

@description('Name of the storage account of the deployed package.')
param codeStorageName string

@description('Container of the deployed package.')
param deploymentContainer string

@description('Name of the data storage account.')
param dataStorageName string

@description('Name of the Application Insights component.')
param applicationInsightsName string

@description('Container where images are dropped.')
param inputContainer string

@description('Container where results appear.')
param outputContainer string

@description('Container of trials and evaluations.')
param trialsContainer string

@description('Container of the pipeline\'s own notes.')
param stateContainer string

@description('Container of events that could not be delivered.')
param deadLetterContainer string

@description('Container of instructions that uploaders can\'t write; empty for none.')
param instructionsContainer string

@description('Queue of what others ask for.')
param requestsQueue string

@description('Queues that the app takes messages from or puts them on: the one above, and the poison queues.')
param appQueues string[]

@description('Object id of the function app\'s identity.')
param appPrincipalId string

@description('Object id of the identity that the platform writes and reads the package with.')
param deploymentPrincipalId string

@description('Whether the app gets roles of its own making, which allow what it does and no more, where Azure\'s own allow more.')
param customRoles bool

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

resource codeStorage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: codeStorageName
}

resource codeBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' existing = {
  parent: codeStorage
  name: 'default'
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: codeBlobs
  name: deploymentContainer
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

resource trials 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: trialsContainer
}

resource state 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: stateContainer
}

resource deadLetters 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: deadLetterContainer
}

resource instructions 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: dataBlobs
  name: empty(instructionsContainer) ? 'none' : instructionsContainer
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

// The function app on the host's account. An identity-based AzureWebJobsStorage is documented with these three roles on
// the whole account: the host makes containers, queues and tables as it needs them. Nothing of anybody's is in there.
// https://learn.microsoft.com/azure/azure-functions/functions-reference#grant-permission-to-the-identity
var onHostStorage = [
  storageBlobDataOwner
  storageQueueDataContributor
  storageTableDataContributor
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

// The package is in an account of its own, which the app's identity can't write: it can't replace the code that it runs.
resource deploymentOnPackages 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(packages.id, deploymentPrincipalId, storageBlobDataContributor)
  scope: packages
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
    principalId: deploymentPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// The function app on the data account: by container and by queue. Microsoft's page asks for Storage Blob Data Owner and
// Storage Queue Data Contributor on the account. With Event Grid as its source, the blob trigger only reads the properties
// of the blob, and writes to its poison queue. tests/infra/test_least_privilege.py runs the app with these and no others.
resource appOnImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(images.id, appPrincipalId, storageBlobDataReader)
  scope: images
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource appOnInstructions 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(instructionsContainer)) {
  name: guid(instructions.id, appPrincipalId, storageBlobDataReader)
  scope: instructions
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource appOnDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(deadLetters.id, appPrincipalId, storageBlobDataReader)
  scope: deadLetters
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Azure's own role for writing blobs allows deleting them, and the container. Ours does not.
var writerName = guid(resourceGroup().id, 'Blobsight result writer')
var keeperName = guid(resourceGroup().id, 'Blobsight note keeper')
var writer = customRoles ? writerName : storageBlobDataContributor
var keeper = customRoles ? keeperName : storageBlobDataContributor

resource resultWriter 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (customRoles) {
  name: writerName
  properties: {
    roleName: 'Blobsight result writer (${dataStorageName})'
    description: 'Reads and writes blobs. Deletes neither them nor their container.'
    type: 'customRole'
    permissions: [
      {
        actions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write'
        ]
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource noteKeeper 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (customRoles) {
  name: keeperName
  properties: {
    roleName: 'Blobsight note keeper (${dataStorageName})'
    description: 'Reads, writes and deletes blobs, and does not delete their container.'
    type: 'customRole'
    permissions: [
      {
        actions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write'
        ]
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource appOnResults 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(results.id, appPrincipalId, writer)
  scope: results
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', writer)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
  dependsOn: [
    resultWriter
  ]
}

// Images that people try a question with are read in there, and what the model said of them is written: as in results.
resource appOnTrials 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(trials.id, appPrincipalId, writer)
  scope: trials
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', writer)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
  dependsOn: [
    resultWriter
  ]
}

resource appOnState 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(state.id, appPrincipalId, keeper)
  scope: state
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keeper)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
  dependsOn: [
    noteKeeper
  ]
}

module appOnQueues 'app-on-queue.bicep' = [
  for queue in appQueues: {
    name: 'app-on-${queue}'
    params: {
      storageName: dataStorageName
      queueName: queue
      appPrincipalId: appPrincipalId
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

// A person: drop images, read results, ask for a re-analysis, try a question.
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

// Trials are a person's own: images to try are put in there, and trials are removed.
resource userOnTrials 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(trials.id, userPrincipalId, storageBlobDataContributor)
  scope: trials
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
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

resource userOnInstructions 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId) && !empty(instructionsContainer)) {
  name: guid(instructions.id, userPrincipalId, storageBlobDataContributor)
  scope: instructions
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
    principalId: userPrincipalId
    principalType: userPrincipalType
  }
}
