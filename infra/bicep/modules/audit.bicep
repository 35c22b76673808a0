metadata description = 'Who did what: audit logs of storage, the app and a new Azure OpenAI account, in a workspace of their own.'

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('For how many days logs are kept; the first 31 are free.')
@minValue(30)
@maxValue(730)
param retentionDays int

@description('Name of the data storage account.')
param dataStorageName string

@description('Name of the storage account of the deployed package.')
param codeStorageName string

@description('Name of the function app.')
param functionAppName string

@description('Name of the Azure OpenAI account of this resource group; empty for none.')
param openAiName string

// Without a daily cap, and apart from the app's own logs: what uploads cause here can't use up the cap that alerts need.
resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: dataStorageName
}

resource dataBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' existing = {
  parent: dataStorage
  name: 'default'
}

resource dataQueues 'Microsoft.Storage/storageAccounts/queueServices@2025-08-01' existing = {
  parent: dataStorage
  name: 'default'
}

resource codeStorage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: codeStorageName
}

resource codeBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' existing = {
  parent: codeStorage
  name: 'default'
}

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: functionAppName
}

resource openAi 'Microsoft.CognitiveServices/accounts@2025-06-01' existing = {
  name: empty(openAiName) ? 'none' : openAiName
}

var readsAndWrites = [
  {
    category: 'StorageRead'
    enabled: true
  }
  {
    category: 'StorageWrite'
    enabled: true
  }
  {
    category: 'StorageDelete'
    enabled: true
  }
]
// Of queues and of the package not the reads: the host polls all the time.
var writes = [
  {
    category: 'StorageWrite'
    enabled: true
  }
  {
    category: 'StorageDelete'
    enabled: true
  }
]

#disable-next-line use-recent-api-versions // there is no newer one
resource ofBlobs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: dataBlobs
  properties: {
    workspaceId: workspace.id
    logs: readsAndWrites
  }
}

#disable-next-line use-recent-api-versions // there is no newer one
resource ofQueues 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: dataQueues
  properties: {
    workspaceId: workspace.id
    logs: writes
  }
}

#disable-next-line use-recent-api-versions // there is no newer one
resource ofPackages 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: codeBlobs
  properties: {
    workspaceId: workspace.id
    logs: writes
  }
}

#disable-next-line use-recent-api-versions // there is no newer one
resource ofApp 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: app
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}

#disable-next-line use-recent-api-versions // there is no newer one
resource ofModel 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(openAiName)) {
  name: 'audit'
  scope: openAi
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        category: 'Audit'
        enabled: true
      }
      {
        category: 'RequestResponse'
        enabled: true
      }
    ]
  }
}
