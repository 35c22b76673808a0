metadata description = 'The deployed package, and nothing else: what can write here decides what code runs.'

@description('Name of the account.')
param name string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Redundancy.')
param sku string

@description('Container of the deployed package.')
param deploymentContainer string

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
    containers: [
      deploymentContainer
    ]
    queues: []
    versioning: false
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

@description('Where packages are deployed to.')
output deploymentContainerUrl string = '${account.outputs.blobEndpoint}${deploymentContainer}'
