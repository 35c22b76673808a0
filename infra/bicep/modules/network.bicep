metadata description = 'A virtual network that the app calls from, with private endpoints for what it calls.'

@description('A private endpoint.')
type Endpoint = {
  @description('Name of the endpoint.')
  name: string

  @description('Resource id of what it leads to.')
  resourceId: string

  @description('Which of its services: blob, queue, table, or account for Azure OpenAI.')
  groupId: string

  @description('Name of the private DNS zone that the address is written into.')
  dnsZone: string
}

@description('Name of the network.')
param name string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Address range of the network.')
param addressPrefix string

@description('Address range of the subnet that the app calls from: /27 or larger.')
param appSubnetPrefix string

@description('Address range of the subnet of the private endpoints.')
param endpointSubnetPrefix string

@description('Service tags that the app calls outside the network, and nothing else; empty: it may call anything.')
param outboundTags string[]

@description('Names of the private DNS zones.')
param dnsZones string[]

@description('Private endpoints.')
param endpoints Endpoint[]

var outboundRules = [
  for (tag, index) in outboundTags: {
    name: 'to-${tag}'
    properties: {
      priority: 100 + index
      direction: 'Outbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: tag
      destinationPortRange: '443'
    }
  }
]
var nothingElse = [
  {
    name: 'nothing-else-outside'
    properties: {
      priority: 4096
      direction: 'Outbound'
      access: 'Deny'
      protocol: '*'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: 'Internet' // everything that is not in the network
      destinationPortRange: '*'
    }
  }
]

resource network 'Microsoft.Network/virtualNetworks@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressPrefix
      ]
    }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: appSubnetPrefix
          // Entra, Application Insights and an Azure OpenAI account outside this deployment are on the public network.
          defaultOutboundAccess: true
          networkSecurityGroup: {
            id: appSecurityGroup.id
          }
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'private-endpoints'
        properties: {
          addressPrefix: endpointSubnetPrefix
          defaultOutboundAccess: false
          privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
          networkSecurityGroup: {
            id: securityGroup.id
          }
        }
      }
    ]
  }
}

// The rules that every security group has: traffic inside the network, and nothing from outside.
resource securityGroup 'Microsoft.Network/networkSecurityGroups@2025-07-01' = {
  name: '${name}-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: []
  }
}

resource appSecurityGroup 'Microsoft.Network/networkSecurityGroups@2025-07-01' = {
  name: '${name}-app-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: empty(outboundTags) ? [] : concat(outboundRules, nothingElse)
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zone in dnsZones: {
    name: zone
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (zone, index) in dnsZones: {
    parent: zones[index]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: network.id
      }
    }
  }
]

// One after the other: several at once in one subnet, or to one account, fail with AnotherOperationInProgress.
@batchSize(1)
resource privateEndpoints 'Microsoft.Network/privateEndpoints@2025-07-01' = [
  for endpoint in endpoints: {
    name: endpoint.name
    location: location
    tags: tags
    properties: {
      subnet: {
        id: '${network.id}/subnets/private-endpoints'
      }
      privateLinkServiceConnections: [
        {
          name: endpoint.name
          properties: {
            privateLinkServiceId: endpoint.resourceId
            groupIds: [
              endpoint.groupId
            ]
          }
        }
      ]
    }
  }
]

resource dnsRecords 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-07-01' = [
  for (endpoint, index) in endpoints: {
    parent: privateEndpoints[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: 'default'
          properties: {
            privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', endpoint.dnsZone)
          }
        }
      ]
    }
    dependsOn: [
      zones
    ]
  }
]
