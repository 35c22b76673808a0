metadata description = 'Alerts for what would go unnoticed: poison, undelivered events, failing functions and results, stopped hosts, throttling, rates that are used up, stuck batches.'

@description('Beginning of the alerts\' names.')
param prefix string

@description('Region of the Application Insights component.')
param location string

@description('Tags of every resource.')
param tags { *: string }

@description('Who gets an e-mail for an alert; empty for none: alerts are seen in the portal then.')
param email string

@description('Resource id of the Application Insights component.')
param applicationInsightsId string

@description('Resource id of the Event Grid system topic.')
param topicId string

@description('Resource id of the Azure OpenAI account.')
param openAiId string

@description('Name of the model deployment.')
param modelDeploymentName string

@description('Whether the app sends batches.')
param batches bool

@description('Failed results in 15 minutes that are too many.')
param failedResultsThreshold int

@description('Throttled model calls in 15 minutes that are too many. Some are normal: the pipeline waits and goes on.')
param throttledCallsThreshold int

var actionGroupName = '${prefix}-people'
var actionGroupIds = empty(email) ? [] : [resourceId('Microsoft.Insights/actionGroups', actionGroupName)]
var metricActions = [
  for id in actionGroupIds: {
    actionGroupId: id
  }
]

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

// Each query compares fields as a whole, never words in a line, which a file's name could bring in. The fields of the
// pipeline's own lines are those of docs/operations.md. tests/infra/test_alerts.py runs every query.
var poisonQuery = '''
traces
| where tostring(customDimensions.logger_name) startswith "pipeline"
| where tostring(customDimensions.error_code) == "crashed"
'''

// Who tries questions sees what fails; no image of the input container lacks its answer for it.
var failedResultsQuery = '''
traces
| where tostring(customDimensions.logger_name) startswith "pipeline"
| where tostring(customDimensions.outcome) == "failed" and tostring(customDimensions.trial) == ""
'''

// The host names the function only on an invocation: what strangers send to the app's address (404, 401) has no faas.name.
// A failed call of the HTTP function is its caller's to see.
var failedFunctionsQuery = '''
requests
| where success == false
| where tostring(customDimensions["faas.name"]) !in ("", "process_image")
'''

// The host logs one of two fixed sentences with an exception, so it is a row of exceptions. OriginalFormat is the sentence
// as it stands in the host's code, CategoryName the class that says it: neither holds anything of an upload's.
// https://github.com/Azure/azure-functions-host, WebScriptHostExceptionHandler.cs
var stoppedHostsQuery = '''
union traces, exceptions
| where severityLevel >= 3 and tostring(customDimensions.logger_name) !startswith "pipeline"
| where tostring(customDimensions.CategoryName) endswith "WebScriptHostExceptionHandler"
    or message in ("An unhandled exception has occurred. Host is shutting down.", "A function timeout has occurred. Host is shutting down.")
    or outerMessage in ("An unhandled exception has occurred. Host is shutting down.", "A function timeout has occurred. Host is shutting down.")
    or tostring(customDimensions.OriginalFormat) in ("An unhandled exception has occurred. Host is shutting down.", "A function timeout has occurred. Host is shutting down.")
    or tostring(customDimensions.FormattedMessage) in ("An unhandled exception has occurred. Host is shutting down.", "A function timeout has occurred. Host is shutting down.")
'''

// Work that waits because of a rate which the operator set: TOKENS_PER_DAY or REANALYSES_PER_HOUR.
var rateUsedUpQuery = '''
traces
| where tostring(customDimensions.logger_name) startswith "pipeline"
| where tostring(customDimensions.error_type) in ("OverDailyTokens", "OverReanalyses")
'''

// A batch that goes on only once the operator has fixed something. What passes by itself has another value.
var stuckBatchesQuery = '''
traces
| where tostring(customDimensions.logger_name) == "pipeline.batches"
| where tostring(customDimensions.problem) == "operator"
'''

var logAlerts = [
  {
    name: 'poison'
    severity: 1
    threshold: 0
    window: 'PT15M'
    description: 'An image crashed each time it was tried. Its result says "crashed". Why: docs/operations.md#poison-messages-and-crashes'
    query: poisonQuery
  }
  {
    name: 'failed-results'
    severity: 3
    threshold: failedResultsThreshold
    window: 'PT15M'
    description: 'Many uploads end in a failed result. By error code, with what to do: docs/operations.md#failed-results-by-code'
    query: failedResultsQuery
  }
  {
    name: 'failing-functions'
    severity: 2
    threshold: 10
    window: 'PT15M'
    description: 'Functions fail and are tried again: storage out of reach, a missing role, a defect. Which, and with what exception: docs/operations.md#functions-that-fail'
    query: failedFunctionsQuery
  }
  {
    name: 'stopped-hosts'
    severity: 1
    threshold: 2 // one upload that can't be looked at stops the host every ten minutes, five times in all
    window: 'PT1H'
    description: 'The Functions host stops again and again, with all work on it: it fails to look at an upload or a queue. Which, and why: docs/operations.md#the-host-stops'
    query: stoppedHostsQuery
  }
  {
    name: 'rate-used-up'
    severity: 3
    threshold: 0
    window: 'PT15M'
    description: 'Images wait because a rate that you set is used up: TOKENS_PER_DAY or REANALYSES_PER_HOUR. Which, and for whose images: docs/operations.md#rates-that-are-used-up'
    query: rateUsedUpQuery
  }
]

var batchAlerts = [
  {
    name: 'stuck-batches'
    severity: 2
    threshold: 0
    window: 'PT15M'
    description: 'A batch can\'t be sent or brought back until you fix something: a role, the deployment. Which, and why: docs/operations.md#batches-that-are-stuck'
    query: stuckBatchesQuery
  }
]

resource logs 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in concat(logAlerts, batches ? batchAlerts : []): {
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
      windowSize: alert.window
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
  }
]

resource deadLetters 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: '${prefix}-dead-letters'
  location: 'global'
  tags: tags
  properties: {
    description: 'Event Grid gave up on an event. The upload is not lost: the app\'s timer queues it. Why events are refused: docs/operations.md#lost-events'
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

resource throttling 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: '${prefix}-throttling'
  location: 'global'
  tags: tags
  properties: {
    description: 'Azure OpenAI refuses many calls. The images wait; to make them wait less: docs/operations.md#throttling-that-lasts'
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
