metadata description = 'Lets the function app call an Azure OpenAI account of this resource group.'

@description('Name of the account.')
param accountName string

@description('Object id of the function app\'s identity.')
param appPrincipalId string

@description('Whether the app gets a role that allows chat completions and nothing else. Azure\'s own also shows files, threads and stored answers of everybody who uses the account.')
param customRoles bool

@description('Whether the app sends batches, for which it needs a second role.')
param batches bool

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var cognitiveServicesOpenAiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
var cognitiveServicesOpenAiContributor = 'a001fd3d-188f-4b5d-821b-7da978bf7442'

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' existing = {
  name: accountName
}

var callerName = guid(account.id, 'Blobsight model caller')
var caller = customRoles ? callerName : cognitiveServicesOpenAiUser

resource modelCaller 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (customRoles) {
  name: callerName
  properties: {
    roleName: 'Blobsight model caller (${accountName})'
    description: 'Asks deployed models for chat completions.'
    type: 'customRole'
    permissions: [
      {
        actions: []
        dataActions: [
          'Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action'
        ]
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, caller)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', caller)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
  dependsOn: [
    modelCaller
  ]
}

// Azure's own role for this also makes and deletes deployments, and reads and deletes what others have in the account.
var senderName = guid(account.id, 'Blobsight batches')
var sender = customRoles ? senderName : cognitiveServicesOpenAiContributor

// Microsoft documents the names, and not which call needs which: tests/infra/test_least_privilege.py has what we take for it.
// https://learn.microsoft.com/azure/role-based-access-control/permissions/ai-machine-learning
resource batchSender 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (customRoles && batches) {
  name: senderName
  properties: {
    roleName: 'Blobsight batches (${accountName})'
    description: 'Sends files of questions as batches, looks at them, cancels them, reads their answers and deletes the files.'
    type: 'customRole'
    permissions: [
      {
        actions: []
        dataActions: [
          'Microsoft.CognitiveServices/accounts/OpenAI/batch-jobs/write'
          'Microsoft.CognitiveServices/accounts/OpenAI/batches/cancel/action'
          'Microsoft.CognitiveServices/accounts/OpenAI/batches/read'
          'Microsoft.CognitiveServices/accounts/OpenAI/files/delete'
          'Microsoft.CognitiveServices/accounts/OpenAI/files/read'
          'Microsoft.CognitiveServices/accounts/OpenAI/files/write'
        ]
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource batchAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (batches) {
  name: guid(account.id, appPrincipalId, sender)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', sender)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
  dependsOn: [
    batchSender
  ]
}

@description('Resource id of the account.')
output accountId string = account.id

// By its subdomain: what properties.endpoint says of an account of the kind AIServices is not where the v1 API is, and an
// account without a subdomain, which takes no tokens, fails here.
// https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
@description('Address of the account.')
output endpoint string = 'https://${account.properties.customSubDomainName}.openai.azure.com/'
