metadata description = 'Lets the function app, and the Functions host as the app, work with one queue of the data account.'

@description('Name of the data storage account.')
param storageName string

@description('Name of the queue.')
param queueName string

@description('Object id of the function app\'s identity.')
param appPrincipalId string

// No smaller one of Azure's own will do: the host puts a message that failed back for a while and renews the one at work
// (messages/write), which Storage Queue Data Message Processor does not allow.
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var storageQueueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-08-01' existing = {
  parent: storage
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-08-01' existing = {
  parent: queues
  name: queueName
}

resource appOnQueue 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(queue.id, appPrincipalId, storageQueueDataContributor)
  scope: queue
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageQueueDataContributor)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}
