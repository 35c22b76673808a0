"""What the service says when it takes a file or a batch not. Where no source has its words, they are ours."""

from localcloud.model.errors import ErrorReply, gateway_error, invalid_request


def file_too_large() -> ErrorReply:
    return invalid_request("File is too large.")


def no_content_type() -> ErrorReply:
    return gateway_error(400, "invalidPayload", "The file has no or an empty content type specified.")


def no_file() -> ErrorReply:
    return gateway_error(400, "invalidPayload", "The request has no file.")


def wrong_purpose(purpose: str) -> ErrorReply:
    return gateway_error(400, "invalidPayload", f"The purpose '{purpose}' is not supported. Use 'batch'.")


def wrong_expiry() -> ErrorReply:
    return gateway_error(
        400, "invalidPayload", "expires_after needs the anchor created_at, and 1209600 to 2592000 seconds."
    )


def too_many_files(most: int, *, expiring: bool) -> ErrorReply:
    kind = "files" if expiring else "files without expiry"
    return gateway_error(400, "quotaExceeded", f"The quota for {kind} is reached. The maximum is {most}.")


def file_missing(identifier: str) -> ErrorReply:
    return invalid_request(f"No such File object: {identifier}", param="id", status=404)


def batch_missing(identifier: str) -> ErrorReply:
    return invalid_request(f"No batch found with id '{identifier}'.", param="id", status=404)


def file_not_ready(identifier: str) -> ErrorReply:
    return gateway_error(400, "invalidPayload", f"The file {identifier} is not yet processed. Please try again later.")


def not_an_input(identifier: str) -> ErrorReply:
    return invalid_request(f"The file {identifier} was not uploaded for batches.", param="input_file_id")


def wrong_endpoint(endpoint: object) -> ErrorReply:
    return invalid_request(
        f"Invalid value: '{endpoint}'. Supported values are: '/chat/completions'.",
        param="endpoint",
        code="invalid_value",
    )


def wrong_window(window: object) -> ErrorReply:
    return invalid_request(
        f"Invalid value: '{window}'. Supported values are: '24h'.", param="completion_window", code="invalid_value"
    )


def wrong_metadata(problem: str, code: str, where: str = "metadata") -> ErrorReply:
    return invalid_request(problem, param=where, code=code)


def token_limit_exceeded(most: int) -> ErrorReply:
    return gateway_error(400, "token_limit_exceeded", token_limit_message(most))


def token_limit_message(most: int) -> str:
    return (
        f"Enqueued token limit reached: {most:,} tokens. Please try again once some batches that are in progress have "
        "been completed."
    )


def cannot_cancel(status: str) -> ErrorReply:
    return invalid_request(f"Cannot cancel a batch with status '{status}'.", status=409)


def bad_query(name: str, value: str) -> ErrorReply:
    return invalid_request(f"Invalid value for '{name}': '{value}'.", param=name, code="invalid_value")
