"""`blobsight doctor`.

command.py            the command: all checks at once, a line each
findings.py           a check and its outcome
storage_checks.py     the person's rights on the storage account, tried out
azure_checks.py       the deployment: app, model, roles, event subscription
resource_manager.py   the requests to Azure Resource Manager
"""
