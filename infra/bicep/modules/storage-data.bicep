metadata description = 'Where images are dropped and results appear, with the queues of the pipeline.'

@description('Name of the account.')
param name string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Redundancy.')
param sku string

@description('Container where images are dropped.')
param inputContainer string

@description('Container where results appear.')
param outputContainer string

@description('Container of the pipeline\'s own notes.')
param stateContainer string

@description('Container of events that Event Grid could not deliver.')
param deadLetterContainer string

@description('Queue of what others ask for, and of events when they are delivered by queue.')
param requestsQueue string

@description('Queue of the app\'s own work that waits. Nobody else is given a role on it.')
param deferredQueue string

@description('For how many days deleted blobs and containers can be brought back.')
param softDeleteDays int

@description('After how many days an overwritten version of an image or a result is deleted.')
@minValue(1)
param versionDays int

@description('After how many days without a change images and results are deleted. 0 keeps them.')
@minValue(0)
param keepDays int

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
      inputContainer
      outputContainer
      stateContainer
      deadLetterContainer
    ]
    queues: [
      requestsQueue
      '${requestsQueue}-poison' // the host moves a message here that failed five times
      deferredQueue
      '${deferredQueue}-poison'
      'webjobs-blobtrigger-poison' // the same for the blob trigger; its name is the host's choice
    ]
    versioning: true
    softDeleteDays: softDeleteDays
    networkIsolation: networkIsolation
    allowedIpRanges: allowedIpRanges
  }
}

// On a blob with versions, deleting the current one leaves it behind as a version: each rule deletes those, too.
var standingRules = [
  {
    name: 'old-versions'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: [
          'blockBlob'
        ]
        prefixMatch: [
          '${inputContainer}/'
          '${outputContainer}/'
        ]
      }
      actions: {
        version: {
          delete: {
            daysAfterCreationGreaterThan: versionDays
          }
        }
      }
    }
  }
  {
    // Each image leaves versions of its claim behind. A claim or a mark of 90 days is left by a dead run.
    name: 'pipeline-state'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: [
          'blockBlob'
        ]
        prefixMatch: [
          '${stateContainer}/'
        ]
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterModificationGreaterThan: 90
          }
        }
        version: {
          delete: {
            daysAfterCreationGreaterThan: 1
          }
        }
      }
    }
  }
  {
    name: 'dead-letters'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: [
          'blockBlob'
        ]
        prefixMatch: [
          '${deadLetterContainer}/'
        ]
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterModificationGreaterThan: 90
          }
        }
        version: {
          delete: {
            daysAfterCreationGreaterThan: 1
          }
        }
      }
    }
  }
]

var retentionRules = [
  {
    name: 'images-and-results'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: [
          'blockBlob'
        ]
        prefixMatch: [
          '${inputContainer}/'
          '${outputContainer}/'
        ]
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterModificationGreaterThan: keepDays
          }
        }
      }
    }
  }
]

resource storageAccount 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: name
}

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-08-01' = {
  parent: storageAccount
  name: 'default'
  properties: {
    policy: {
      rules: concat(standingRules, keepDays > 0 ? retentionRules : [])
    }
  }
  dependsOn: [
    account
  ]
}

@description('Resource id.')
output id string = account.outputs.id

@description('Name.')
output name string = account.outputs.name

@description('Address of the blob service, with a slash at its end.')
output blobEndpoint string = account.outputs.blobEndpoint

@description('Address of the queue service, with a slash at its end.')
output queueEndpoint string = account.outputs.queueEndpoint
