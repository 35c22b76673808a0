metadata description = 'The topic that tells of every blob written to the data account. Subscriptions follow once code is deployed.'

@description('Name of the topic. A storage account has at most one.')
param name string

@description('Region of the storage account.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Resource id of the data storage account.')
param dataStorageId string

@description('Resource id of the Log Analytics workspace that is told of failed deliveries.')
param workspaceId string

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'SystemAssigned' // the only kind that passes a storage firewall
  }
  properties: {
    source: dataStorageId
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

#disable-next-line use-recent-api-versions // there is no newer one
resource deliveryFailures 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'delivery-failures'
  scope: topic
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'DeliveryFailures'
        enabled: true
      }
    ]
  }
}

@description('Resource id.')
output id string = topic.id

@description('Name.')
output name string = topic.name

@description('Object id of the topic\'s identity.')
output principalId string = topic.identity.principalId
