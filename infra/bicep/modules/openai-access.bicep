metadata description = 'Lets the function app call an Azure OpenAI account of this resource group.'

@description('Name of the account.')
param accountName string

@description('Object id of the function app\'s identity.')
param appPrincipalId string

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var cognitiveServicesOpenAiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' existing = {
  name: accountName
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, cognitiveServicesOpenAiUser)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', cognitiveServicesOpenAiUser)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

@description('Resource id of the account.')
output accountId string = account.id

// By its subdomain: what properties.endpoint says of an account of the kind AIServices is not where the v1 API is, and an
// account without a subdomain, which takes no tokens, fails here.
// https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
@description('Address of the account.')
output endpoint string = 'https://${account.properties.customSubDomainName}.openai.azure.com/'
