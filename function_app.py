"""What Azure Functions runs: bindings, and one call each."""

import azure.functions as func
from azurefunctions.extensions.bindings import blob

from pipeline.app import analyze_upload, analyzer, settings
from pipeline.http_api import process_image as answer

app = func.FunctionApp()
config = settings()  # a wrong setting stops the start, with one message that names every bad key


# The client is bound for the blob's name only: with it, the host sends no image bytes through the worker's channel.
@app.blob_trigger(
    arg_name="upload",
    path="%INPUT_CONTAINER%/{name}",
    connection="DataStorage",
    source=func.BlobSource.EVENT_GRID,
)
async def analyze_image(upload: blob.BlobClient) -> None:
    await analyze_upload(upload.container_name, upload.blob_name)


if config.process_image_enabled:

    @app.route(route="process_image", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    async def process_image(req: func.HttpRequest) -> func.HttpResponse:
        return await answer(analyzer(), req)
