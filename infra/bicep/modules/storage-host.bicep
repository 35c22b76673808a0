metadata description = 'What the Functions host keeps for itself: locks, keys, its internal queues with names of uploads. No image and no code.'

@description('Name of the account.')
param name string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Redundancy.')
param sku string

@description('For how many days deleted blobs and containers can be brought back.')
param softDeleteDays int

@description('Whether blobs are only copied from accounts of the same tenant, and to them.')
param copiesWithinTenant bool

@description('Whether only private endpoints, trusted Azure services and allowedIpRanges reach the account.')
param networkIsolation bool

@description('Public IP addresses and ranges (CIDR) that reach the account all the same.')
param allowedIpRanges string[]

module account 'storage-account.bicep' = {
  name: '${name}-account'
  params: {
    name: name
    location: location
    tags: tags
    sku: sku
    containers: [] // the host makes its own, as it does queues
    queues: []
    versioning: false // locks are rewritten every few seconds; each would be a version
    softDeleteDays: softDeleteDays
    copiesWithinTenant: copiesWithinTenant
    networkIsolation: networkIsolation
    allowedIpRanges: allowedIpRanges
  }
}

@description('Resource id.')
output id string = account.outputs.id

@description('Name.')
output name string = account.outputs.name
