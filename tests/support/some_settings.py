"""Settings that are enough for a start."""

ENOUGH = {
    "DataStorage__blobServiceUri": "https://data.blob.core.windows.net/",
    "DataStorage__queueServiceUri": "https://data.queue.core.windows.net/",
    "AZURE_OPENAI_ENDPOINT": "https://ai.openai.azure.com/",
    "AZURE_OPENAI_DEPLOYMENT": "vision",
}
