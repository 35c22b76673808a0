metadata description = 'An Azure OpenAI account that knows no keys, with one deployment of a model that sees, and another for batches if asked for.'

@description('Name of the account, and its subdomain: unique in Azure.')
param name string

@description('Region. Not every model is in every region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Name of the deployment.')
param deploymentName string

@description('Name of the model.')
param modelName string

@description('Version of the model.')
param modelVersion string

@description('Where an image may be computed: GlobalStandard or DataZoneStandard.')
param modelSku string

@description('Thousands of tokens per minute.')
param modelCapacity int

@description('Name of the deployment that answers in batches; empty for none.')
param batchDeploymentName string

@description('Where an image of a batch may be computed: GlobalBatch or DataZoneBatch.')
param batchSku string

@description('Thousands of input tokens that may be in batches at a time.')
param batchCapacity int

@description('Whether only a private endpoint reaches the account.')
param networkIsolation bool

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: {
    name: 'S0'
  }
  properties: {
    customSubDomainName: name // tokens are accepted at a subdomain of one's own only
    disableLocalAuth: true
    publicNetworkAccess: networkIsolation ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: networkIsolation ? 'Deny' : 'Allow'
    }
  }
}

resource modelDeployment 'Microsoft.CognitiveServices/accounts/deployments@2025-06-01' = {
  parent: account
  name: deploymentName
  sku: {
    name: modelSku
    capacity: modelCapacity
  }
  properties: {
    model: {
      format: 'OpenAI'
      name: modelName
      version: modelVersion
    }
    // A new version may answer differently: not before the old one is retired.
    versionUpgradeOption: 'OnceCurrentVersionExpired'
  }
}

// The same model: an answer counts for the same question, whichever of the two gave it.
resource batchDeployment 'Microsoft.CognitiveServices/accounts/deployments@2025-06-01' = if (!empty(batchDeploymentName)) {
  parent: account
  name: empty(batchDeploymentName) ? 'none' : batchDeploymentName
  sku: {
    name: batchSku
    capacity: batchCapacity
  }
  properties: {
    model: {
      format: 'OpenAI'
      name: modelName
      version: modelVersion
    }
    versionUpgradeOption: 'OnceCurrentVersionExpired'
  }
  dependsOn: [
    modelDeployment // an account makes one deployment after the other
  ]
}
