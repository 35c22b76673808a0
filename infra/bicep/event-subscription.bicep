metadata description = 'Sends the data account\'s events to the pipeline. Second phase: the webhook\'s key is there once deployed code has run.'

targetScope = 'resourceGroup'

@description('Name of the Event Grid system topic of the data account.')
param systemTopicName string

@description('Name of the data storage account.')
param dataStorageName string

@description('Name of the function app.')
param functionAppName string

@description('How events are delivered: to the app\'s webhook, whose key is part of the subscription, or to a queue, with no key anywhere.')
@allowed([
  'webhook'
  'queue'
])
param eventDelivery string = 'webhook'

@description('Container where images are dropped.')
param inputContainer string = 'images'

@description('Queue of requests, for delivery by queue.')
param requestsQueue string = 'analysis-requests'

@description('Container of events that could not be delivered.')
param deadLetterContainer string = 'dead-letters'

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: systemTopicName
}

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: dataStorageName
}

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: functionAppName
}

// The only key in these templates. It goes from the function app to Event Grid inside Azure: no output, parameter or log
// holds it. Of the two branches, Resource Manager evaluates the one that is chosen, so delivery by queue reads no key.
var webhook = 'https://${app.properties.defaultHostName}/runtime/webhooks/blobs?functionName=Host.Functions.analyze_image'
var webhookDestination = {
  endpointType: 'WebHook'
  properties: {
    endpointUrl: eventDelivery == 'webhook'
      ? '${webhook}&code=${listKeys('${app.id}/host/default', '2025-03-01').systemKeys.blobs_extension}'
      : ''
    minimumTlsVersionAllowed: '1.2'
    // One event a request: what fails is delivered again alone.
    maxEventsPerBatch: 1
    preferredBatchSizeInKilobytes: 64
  }
}

var queueDestination = {
  identity: {
    type: 'SystemAssigned'
  }
  destination: {
    endpointType: 'StorageQueue'
    properties: {
      resourceId: dataStorage.id
      queueName: requestsQueue
      queueMessageTimeToLiveInSeconds: -1 // never: an image waits as long as it has to
    }
  }
}

// Its name says how it delivers: a change of eventDelivery makes a second one before the hook removes the first.
resource uploads 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'analyze-image-${eventDelivery}'
  properties: {
    destination: eventDelivery == 'webhook' ? webhookDestination : null
    deliveryWithResourceIdentity: eventDelivery == 'queue' ? queueDestination : null
    eventDeliverySchema: 'EventGridSchema'
    filter: {
      includedEventTypes: [
        'Microsoft.Storage.BlobCreated'
      ]
      // With the '/blobs/' at its end: without it, events of images2 would come, too.
      subjectBeginsWith: '/blobServices/default/containers/${inputContainer}/blobs/'
      advancedFilters: [
        {
          // An upload in pieces raises several events; each of these calls completes one.
          operatorType: 'StringIn'
          key: 'data.api'
          values: [
            'PutBlob'
            'PutBlockList'
            'CopyBlob'
            'FlushWithClose'
          ]
        }
      ]
    }
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
    deadLetterWithResourceIdentity: {
      identity: {
        type: 'SystemAssigned'
      }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: dataStorage.id
          blobContainerName: deadLetterContainer
        }
      }
    }
  }
}
