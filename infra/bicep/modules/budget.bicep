metadata description = 'Tells somebody what this resource group costs. It stops nothing: Azure has no such brake.'

@description('Name of the budget.')
param name string

@description('A month\'s amount, in the currency of the subscription.')
param amount int

@description('First day of the month that the budget begins in, such as 2026-11-01. Azure lets nobody change it later.')
param startDate string

@description('Who is told.')
param email string

var told = {
  enabled: true
  operator: 'GreaterThanOrEqualTo'
  contactEmails: [
    email
  ]
}

#disable-next-line use-recent-api-versions // the newest whose types could be looked up
resource budget 'Microsoft.Consumption/budgets@2024-08-01' = {
  name: name
  properties: {
    category: 'Cost'
    amount: amount
    timeGrain: 'Monthly'
    timePeriod: {
      startDate: startDate
    }
    notifications: {
      most: union(told, {
        threshold: 80
        thresholdType: 'Actual'
      })
      all: union(told, {
        threshold: 100
        thresholdType: 'Actual'
      })
      foreseen: union(told, {
        threshold: 100
        thresholdType: 'Forecasted'
      })
    }
  }
}
