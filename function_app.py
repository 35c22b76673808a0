"""What Azure Functions runs: bindings, and one call each."""

import azure.functions as func

import pipeline.app
from pipeline.triggers import http_api
from pipeline.triggers.blob_binding import BlobName

app = func.FunctionApp()
settings = pipeline.app.settings()  # a wrong setting stops the start, with one message that names every bad key


# Of this type, so that the host sends no image bytes through the worker's channel.
@app.blob_trigger(
    arg_name="upload",
    path="%INPUT_CONTAINER%/{name}",
    connection="DataStorage",
    source=func.BlobSource.EVENT_GRID,
)
async def analyze_image(upload: BlobName) -> None:
    await pipeline.app.handle_upload(upload.container, upload.name)


# The queues' messages come as bytes: the host itself would fail one that is not text, five times and then in the poison
# queue again, and no result would say so.
@app.queue_trigger(
    arg_name="request", queue_name="%REQUESTS_QUEUE%", connection="DataStorage", data_type=func.DataType.BINARY
)
async def analyze_request(request: func.QueueMessage) -> None:
    await pipeline.app.handle_request(request.get_body().decode(errors="backslashreplace"))


@app.queue_trigger(
    arg_name="work", queue_name="%DEFERRED_QUEUE%", connection="DataStorage", data_type=func.DataType.BINARY
)
async def analyze_deferred(work: func.QueueMessage) -> None:
    await pipeline.app.handle_deferred(work.get_body().decode(errors="backslashreplace"))


@app.queue_trigger(
    arg_name="poison",
    queue_name="webjobs-blobtrigger-poison",
    connection="DataStorage",
    data_type=func.DataType.BINARY,
)
async def record_poison_upload(poison: func.QueueMessage) -> None:
    await pipeline.app.handle_poison_upload(poison.get_body().decode(errors="backslashreplace"))


@app.queue_trigger(
    arg_name="poison", queue_name="%REQUESTS_QUEUE%-poison", connection="DataStorage", data_type=func.DataType.BINARY
)
async def record_poison_request(poison: func.QueueMessage) -> None:
    await pipeline.app.handle_poison_request(poison.get_body().decode(errors="backslashreplace"))


@app.queue_trigger(
    arg_name="poison", queue_name="%DEFERRED_QUEUE%-poison", connection="DataStorage", data_type=func.DataType.BINARY
)
async def record_poison_deferred(poison: func.QueueMessage) -> None:
    await pipeline.app.handle_poison_deferred(poison.get_body().decode(errors="backslashreplace"))


@app.timer_trigger(arg_name="timer", schedule="0 5/15 * * * *")
async def reconcile(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the worker passes it
    await pipeline.app.reconcile()


# At each start, so that a deployment soon sees that its roles count, and then now and again until they do.
@app.timer_trigger(arg_name="timer", schedule="30 */5 * * * *", run_on_startup=True)
async def note_readiness(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the worker passes it
    await pipeline.app.note_readiness()


if settings.batch_deployment:

    @app.timer_trigger(arg_name="timer", schedule=settings.batch_schedule)
    async def run_batches(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the worker passes it
        await pipeline.app.run_batches()


if settings.process_image_enabled:

    @app.route(route="process_image", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    async def process_image(req: func.HttpRequest) -> func.HttpResponse:
        return await http_api.process_image(pipeline.app.app().analyzer, req)
