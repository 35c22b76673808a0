"""`blobsight doctor`.

command.py            the command: all checks side by side, a line each
findings.py           what a check is and what it comes to
storage_checks.py     what a person may do with the storage account, found out by doing it
azure_checks.py       what is deployed: app, model, roles, event subscription
resource_manager.py   Azure Resource Manager, as far as the checks ask it
"""
