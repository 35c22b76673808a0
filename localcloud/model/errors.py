"""The service's error bodies, with the codes, messages and forms that clients have to read.

Azure has three writers of errors, and each has a shape of its own: the token check in front (`statusCode`), the
gateway (`error.code`, `error.message`), and the model service behind (OpenAI's `message`, `type`, `param`, `code`).
API Management, where people put it in front, writes `statusCode` too.
"""

from dataclasses import dataclass
from typing import Any

type Json = dict[str, Any]

CATEGORIES = ("hate", "self_harm", "sexual", "violence")


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A refusal as it goes over the wire."""

    status: int
    body: Json


class RefusedError(Exception):
    """Raised where a request is refused, to the server, which sends the reply."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.body)
        self.reply = reply


def gateway_error(status: int, code: str, message: str) -> ErrorReply:
    return ErrorReply(status, {"error": {"code": code, "message": message}})


def invalid_request(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> ErrorReply:
    return ErrorReply(
        status,
        {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}},
    )


def token_rejected() -> ErrorReply:
    """No token, one for another audience, an expired one: the service does not say which."""
    return ErrorReply(
        401,
        {
            "statusCode": 401,
            "message": "Unauthorized. Access token is missing, invalid, audience is incorrect "
            "(https://cognitiveservices.azure.com), or have expired.",
        },
    )


def key_rejected() -> ErrorReply:
    """The answer of a resource whose local authentication is switched off to an `api-key` header."""
    return gateway_error(403, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource.")


def role_missing(
    action: str = "deployments/chat/completions/action",
    operation: str = "POST /openai/deployments/{deployment-id}/chat/completions",
) -> ErrorReply:
    """A good token of an identity without the data action: 401 too, not 403.

    For chat completions that is the role Cognitive Services OpenAI User.
    """
    return gateway_error(
        401,
        "PermissionDenied",
        "The principal `00000000-0000-0000-0000-000000000000` lacks the required data action "
        f"`Microsoft.CognitiveServices/accounts/OpenAI/{action}` to perform "
        f"`{operation}` operation.",
    )


def network_denied() -> ErrorReply:
    return gateway_error(403, "403", "Access denied due to Virtual Network/Firewall rules.")


def public_access_disabled() -> ErrorReply:
    return gateway_error(403, "403", "Public access is disabled. Please configure private endpoint.")


def abuse_blocked() -> ErrorReply:
    """Microsoft's abuse monitoring, not the content filter."""
    return gateway_error(
        403,
        "Forbidden",
        "Your resource has been temporarily blocked because we detected behavior that may violate our content policy. "
        "For more details on Azure OpenAI service content policy, please visit https://aka.ms/aoaicodeofconduct",
    )


def gateway_quota() -> ErrorReply:
    """API Management's policy `quota`."""
    return ErrorReply(
        403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 5.03:23:11."}
    )


def insufficient_quota() -> ErrorReply:
    """429, though no waiting helps."""
    return ErrorReply(
        429,
        {
            "error": {
                "message": "You exceeded your current quota, please check your plan and billing details. For more "
                "information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            }
        },
    )


def request_too_large() -> ErrorReply:
    """429 for one request that no minute's quota covers."""
    return ErrorReply(
        429,
        {
            "error": {
                "message": "Request too large for gpt-5.4-mini on tokens per min (TPM): Limit 30000, Requested "
                "36278. The input or output tokens must be reduced in order to run successfully.",
                "type": "tokens",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        },
    )


def failed_dependency() -> ErrorReply:
    return gateway_error(424, "FailedDependency", "A dependent service did not answer in time.")


def deployment_not_found() -> ErrorReply:
    return gateway_error(
        404,
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last "
        "5 minutes, please wait a moment and try again.",
    )


def resource_not_found() -> ErrorReply:
    """A path that the service does not have, such as one of the retired endpoints."""
    return gateway_error(404, "404", "Resource not found")


def model_retired() -> ErrorReply:
    return gateway_error(
        410,
        "ModelDeprecated",
        "The model of this deployment has been retired and is no longer available. Deploy a current model: "
        "https://aka.ms/oai/models",
    )


def throttled(seconds: float) -> ErrorReply:
    return gateway_error(
        429,
        "429",
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded token rate limit "
        f"of your current OpenAI S0 pricing tier. Please retry after {seconds:.0f} seconds. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
    )


def no_capacity() -> ErrorReply:
    """Flex without capacity: a 429 like any other, without a header that says when to try again. Not billed."""
    return gateway_error(429, "429", "The resource is temporarily unavailable. Please try again later.")


def tier_unsupported(tier: str) -> ErrorReply:
    """A service tier that the model does not take. The service does not fall back to another."""
    return invalid_request(f"Unsupported service_tier: {tier}", param="service_tier")


def operation_not_supported(model: str) -> ErrorReply:
    """A chat completion to a deployment of the SKU GlobalBatch, whose capability chatCompletion is false."""
    return gateway_error(
        400,
        "OperationNotSupported",
        f"The chatCompletion operation does not work with the specified model, {model}. Please choose different model "
        "and try again. You can learn more about which models can be used with each operation here: "
        "https://go.microsoft.com/fwlink/?linkid=2197993.",
    )


def server_error(status: int = 500) -> ErrorReply:
    if status == 500:
        body = {
            "message": "The server had an error while processing your request. Sorry about that!",
            "type": "server_error",
            "param": None,
            "code": None,
        }
        return ErrorReply(500, {"error": body})
    return gateway_error(status, "InternalServerError", "The service is temporarily unable to process your request.")


def filter_results(filtered: str | None = None, *, prompt: bool) -> Json:
    """The verdict of the content filter; `filtered` is the category that tripped it, if one did."""
    results: Json = {
        category: {"filtered": False, "severity": "safe"}
        if category != filtered
        else {"filtered": True, "severity": "medium"}
        for category in CATEGORIES
    }
    detectors = ("jailbreak",) if prompt else ("protected_material_code", "protected_material_text")
    for detector in detectors:
        results[detector] = {"detected": detector == filtered, "filtered": detector == filtered}
    return results


def prompt_filtered(category: str) -> ErrorReply:
    return ErrorReply(
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy. Please modify your prompt and retry. To learn more about our content filtering policies "
                "please read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": filter_results(category, prompt=True),
                },
            }
        },
    )
