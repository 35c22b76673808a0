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

@description('Container of trials and evaluations.')
param trialsContainer string

@description('Container of the pipeline\'s own notes.')
param stateContainer string

@description('Container of events that Event Grid could not deliver.')
param deadLetterContainer string

@description('Names of the queues.')
param queues string[]

@description('For how many days deleted blobs and containers can be brought back.')
param softDeleteDays int

@description('After how many days an overwritten version of an image or a result, or of a blob in the trials container, is deleted.')
@minValue(1)
param versionDays int

@description('After how many days without a change images, results and what is in the trials container are deleted. 0 keeps them.')
@minValue(0)
param keepDays int

@description('Container of instructions that uploaders can\'t write; empty for none.')
param instructionsContainer string

@description('For how many days a version of a result can be neither changed nor deleted, by anybody. 0: no such policy.')
@minValue(0)
param immutableDays int

@description('Whether blobs are only copied from accounts of the same tenant, and to them.')
param copiesWithinTenant bool

@description('Whether only private endpoints, trusted Azure services and allowedIpRanges reach the account.')
param networkIsolation bool

@description('Public IP addresses and ranges (CIDR) that reach the account all the same.')
param allowedIpRanges string[]

var operatorsContainers = empty(instructionsContainer) ? [] : [instructionsContainer]
var oldVersionsOf = [
  for container in concat([inputContainer, outputContainer, trialsContainer], operatorsContainers): '${container}/'
]

module account 'storage-account.bicep' = {
  name: '${name}-account'
  params: {
    name: name
    location: location
    tags: tags
    sku: sku
    containers: concat(
      [
        inputContainer
        outputContainer
        stateContainer
        trialsContainer
        deadLetterContainer
      ],
      operatorsContainers
    )
    queues: queues
    immutableContainers: immutableDays > 0 ? [outputContainer] : []
    copiesWithinTenant: copiesWithinTenant
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
        prefixMatch: oldVersionsOf
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
    // A question waits and is sent twice at most, within eleven days. An older one, with its image, is left by a dead run.
    name: 'batches'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: [
          'blockBlob'
        ]
        prefixMatch: [
          '${stateContainer}/batches/'
        ]
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterModificationGreaterThan: 14
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

// Trials hold copies of images and answers about them, so what is deleted of those is deleted there, too. Nothing else is:
// what a trial has paid for stays until a person removes the trial.
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
          '${trialsContainer}/'
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

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' existing = {
  parent: storageAccount
  name: 'default'
}

resource results 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' existing = {
  parent: blobs
  name: outputContainer
}

// Not locked: whoever may manage the account can shorten it, until somebody locks it.
resource immutability 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2025-08-01' = if (immutableDays > 0) {
  parent: results
  name: 'default'
  properties: {
    immutabilityPeriodSinceCreationInDays: immutableDays
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
