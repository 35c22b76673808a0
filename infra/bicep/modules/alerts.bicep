metadata description = 'Alerts for what nobody would notice: poison, undelivered events, failing functions and results, throttling.'

@description('Beginning of the alerts\' names.')
param prefix string

@description('Region of the Application Insights component.')
param location string

@description('Tags of every resource.')
param tags object

@description('Who is told; empty for nobody: the alerts are seen in the portal then.')
param email string

@description('Resource id of the Application Insights component.')
param applicationInsightsId string

@description('Resource id of the Event Grid system topic.')
param topicId string

@description('Resource id of the Azure OpenAI account.')
param openAiId string

@description('Name of the model deployment.')
param modelDeploymentName string

@description('Failed results in 15 minutes that are too many.')
param failedResultsThreshold int

@description('Throttled model calls in 15 minutes that are too many. Some are normal: the pipeline waits and goes on.')
param throttledCallsThreshold int

var actionGroupName = '${prefix}-people'
var actionGroupIds = empty(email) ? [] : [
  resourceId('Microsoft.Insights/actionGroups', actionGroupName)
]
var metricActions = [for id in actionGroupIds: {
  actionGroupId: id
}]

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: actionGroupName
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'Blobsight'
    enabled: true
    emailReceivers: [
      {
        name: 'email'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

// The line that the pipeline logs for each attempt that came to an end:
// images/a.jpg: failed corrupt_image in 21 ms (attempt 1, work 1f2e3d4c)
var poisonQuery = '''
traces
| where message matches regex @': failed crashed in [0-9]+ ms'
'''

var failedResultsQuery = '''
traces
| where message matches regex @': failed [a-z_]+ in [0-9]+ ms'
'''

// A failed HTTP call is its caller's to see. What such a request is called depends on who names it, host or framework.
var failedFunctionsQuery = '''
requests
| where success == false and name !contains 'process_image'
'''

var logAlerts = [
  {
    name: 'poison'
    severity: 1
    threshold: 0
    description: 'An upload or a request used up its deliveries: it crashed every time. Its result says "crashed".'
    query: poisonQuery
  }
  {
    name: 'failed-results'
    severity: 3
    threshold: failedResultsThreshold
    description: 'Many uploads end in a failed result. The results\' error codes and messages say why.'
    query: failedResultsQuery
  }
  {
    name: 'failing-functions'
    severity: 2
    threshold: 10
    description: 'Functions fail and are tried again: storage out of reach, a missing role, a crash. See exceptions.'
    query: failedFunctionsQuery
  }
]

resource logs 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for alert in logAlerts: {
  name: '${prefix}-${alert.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: '${prefix}: ${alert.name}'
    description: alert.description
    severity: alert.severity
    enabled: true
    scopes: [
      applicationInsightsId
    ]
    evaluationFrequency: 'PT15M' // a third of the price of every five minutes
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: alert.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: alert.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    actions: {
      actionGroups: actionGroupIds
    }
  }
  dependsOn: [
    actionGroup
  ]
}]

resource deadLetters 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${prefix}-dead-letters'
  location: 'global'
  tags: tags
  properties: {
    description: 'Event Grid gave up on an event. Nothing is lost: reconcile finds the upload after an hour.'
    severity: 2
    enabled: true
    scopes: [
      topicId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead-letters'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          metricName: 'DeadLetteredCount'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    autoMitigate: true
    actions: metricActions
  }
  dependsOn: [
    actionGroup
  ]
}

resource throttling 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${prefix}-throttling'
  location: 'global'
  tags: tags
  properties: {
    description: 'Azure OpenAI refuses many calls: raise the deployment\'s capacity, or let the images wait.'
    severity: 3
    enabled: true
    scopes: [
      openAiId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'throttling'
          metricNamespace: 'Microsoft.CognitiveServices/accounts'
          metricName: 'AzureOpenAIRequests'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: throttledCallsThreshold
          dimensions: [
            {
              name: 'StatusCode'
              operator: 'Include'
              values: [
                '429'
              ]
            }
            {
              name: 'ModelDeploymentName'
              operator: 'Include'
              values: [
                modelDeploymentName
              ]
            }
          ]
        }
      ]
    }
    autoMitigate: true
    actions: metricActions
  }
  dependsOn: [
    actionGroup
  ]
}
