metadata description = 'The function app on a Flex Consumption plan. It has one identity for its work, one for its package, and no key.'

@description('Name of the plan.')
param planName string

@description('Name of the app: unique in Azure.')
param name string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('azd deploys the service of azure.yaml with this name here.')
param serviceName string

@description('Version of Python.')
param pythonVersion string

@description('Resource id of the app\'s identity.')
param identityId string

@description('Client id of the app\'s identity.')
param identityClientId string

@description('Resource id of the identity that the platform writes and reads the package with.')
param deploymentIdentityId string

@description('Name of the host\'s storage account.')
param hostStorageName string

@description('Where packages are deployed to.')
param deploymentContainerUrl string

@description('Where telemetry is sent.')
param applicationInsightsConnectionString string

@description('Settings of the pipeline, by name.')
param pipelineSettings { *: string }

@description('Memory of an instance in megabytes; it decides the CPU share, too.')
param instanceMemoryMB int

@description('Ceiling on instances.')
param maximumInstanceCount int

@description('Instances that are always up for uploads; paid even when idle.')
param alwaysReadyInstances int

@description('What they are for: the group of functions that is scaled by itself, such as blob or function:NAME.')
param alwaysReadyFor string

@description('Subnet that the app calls from; empty for none.')
param subnetId string

@description('Whether only Event Grid, if it calls the webhook, and allowedIpRanges may call the app.')
param inboundRestricted bool

@description('Whether Event Grid calls the webhook.')
param admitsEventGrid bool

@description('Public IP addresses and ranges (CIDR) that may call the app and deploy to it all the same.')
param allowedIpRanges string[]

var addressRules = [
  for (address, index) in allowedIpRanges: {
    name: 'address-${index}'
    priority: 200 + index
    action: 'Allow'
    ipAddress: contains(address, '/') ? address : '${address}/32'
  }
]
var eventGridRules = [
  {
    name: 'event-grid'
    priority: 100
    action: 'Allow'
    tag: 'ServiceTag'
    ipAddress: 'AzureEventGrid'
  }
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true // Linux
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: union(tags, {
    'azd-service-name': serviceName
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
      '${deploymentIdentityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // Event Grid's webhook comes from outside, and so does a deployment. Everything there asks for a key or a token;
    // process_image is off by default.
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: pythonVersion
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyInstances > 0
          ? [
              {
                name: alwaysReadyFor
                instanceCount: alwaysReadyInstances
              }
            ]
          : []
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: deploymentIdentityId
          }
        }
      }
    }
    siteConfig: {
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ipSecurityRestrictionsDefaultAction: inboundRestricted ? 'Deny' : 'Allow'
      ipSecurityRestrictions: inboundRestricted ? concat(admitsEventGrid ? eventGridRules : [], addressRules) : []
      // Without an address to admit, azd and az could not deploy: that door stays open to those with an Entra token.
      scmIpSecurityRestrictionsUseMain: false
      scmIpSecurityRestrictionsDefaultAction: inboundRestricted && !empty(allowedIpRanges) ? 'Deny' : 'Allow'
      scmIpSecurityRestrictions: inboundRestricted ? addressRules : []
    }
  }
}

// No deployment with a password. There is no such policy for FTP: Flex Consumption has no FTP.
resource scmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'appsettings'
  properties: union(pipelineSettings, {
    AZURE_CLIENT_ID: identityClientId

    // The host's own storage. A plain AzureWebJobsStorage beside these, even an empty one, would win over them.
    AzureWebJobsStorage__accountName: hostStorageName
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identityClientId

    DataStorage__credential: 'managedidentity'
    DataStorage__clientId: identityClientId

    // What each of these does: docs/operations.md, "Switching telemetry on".
    APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnectionString
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'Authorization=AAD;ClientId=${identityClientId}'
    PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY: 'true'
    PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME: 'pipeline'
    AzureFunctionsJobHost__telemetryMode: 'OpenTelemetry'
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS: 'azure_sdk,httpx2,requests,urllib,urllib3'
  })
}

@description('Name.')
output name string = app.name
