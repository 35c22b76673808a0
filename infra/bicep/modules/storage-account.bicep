metadata description = 'A storage account that knows no keys, with its containers and queues.'

@description('Name of the account: 3 to 24 lowercase letters and digits, unique in Azure.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Redundancy.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param sku string

@description('Names of the blob containers.')
param containers string[]

@description('Names of the queues.')
param queues string[]

@description('Whether an overwritten blob is kept as a version.')
param versioning bool

@description('For how many days deleted blobs and containers can be brought back.')
@minValue(1)
@maxValue(365)
param softDeleteDays int

@description('Containers whose blobs\' versions can be made immutable. Azure takes that when a container is made, and not later.')
param immutableContainers string[] = []

@description('Whether blobs are only copied from accounts of the same tenant, and to them.')
param copiesWithinTenant bool

@description('Whether only private endpoints, trusted Azure services and allowedIpRanges reach the account.')
param networkIsolation bool

@description('Public IP addresses and ranges (CIDR) that reach the account all the same.')
param allowedIpRanges string[]

resource account 'Microsoft.Storage/storageAccounts@2025-08-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    accessTier: 'Hot'
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowedCopyScope: copiesWithinTenant ? 'AAD' : null
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    // Not 'Disabled' when isolated: Event Grid dead-letters, and delivers to queues, as a trusted service through the
    // firewall. Private endpoints are not on its way.
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: networkIsolation ? 'Deny' : 'Allow'
      bypass: 'AzureServices'
      ipRules: [
        for address in allowedIpRanges: {
          value: address
          action: 'Allow'
        }
      ]
      virtualNetworkRules: []
    }
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: versioning
    deleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
  }
}

resource blobContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' = [
  for container in containers: {
    parent: blobService
    name: container
    properties: {
      publicAccess: 'None'
      immutableStorageWithVersioning: contains(immutableContainers, container)
        ? {
            enabled: true
          }
        : null
    }
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-08-01' = {
  parent: account
  name: 'default'
}

resource storageQueues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-08-01' = [
  for queue in queues: {
    parent: queueService
    name: queue
  }
]

@description('Resource id.')
output id string = account.id

@description('Name.')
output name string = account.name

@description('Address of the blob service, with a slash at its end.')
output blobEndpoint string = account.properties.primaryEndpoints.blob

@description('Address of the queue service, with a slash at its end.')
output queueEndpoint string = account.properties.primaryEndpoints.queue
