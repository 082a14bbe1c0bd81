"""What boto3 raises, as our errors: who can fix it, and how."""

from __future__ import annotations

from typing import Any

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    PermissionDenied,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)

SOURCE = "cloudwatch"
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Forbidden"})
REJECTED = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
        *("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"),
        *("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"),
        *("AuthFailure", "MissingAuthenticationToken", "MissingAuthenticationTokenException"),
        "OptInRequired",
    }
)
LIMITED = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled"),
        *("LimitExceeded", "LimitExceededFault", "LimitExceededException"),
        *("RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
    }
)
"""LimitExceededFault is CloudWatch's own; botocore does not repeat it by itself."""
WRONG = frozenset(
    {
        *("ValidationError", "ValidationException", "SerializationException"),
        *("InvalidParameterValue", "InvalidParameterValueException"),
        *("InvalidParameterCombination", "InvalidParameterCombinationException"),
        *("MissingParameter", "MissingRequiredParameterException", "InvalidNextToken"),
    }
)


def code_of(problem: Any) -> str:
    """The error code of a ClientError, without the suffix of the query protocol."""
    code = str(problem.response.get("Error", {}).get("Code", ""))
    return code.rpartition("#")[2].partition(":")[0]


def explained(problem: Any, exceptions: Any) -> DevOpsError:
    """Our error for one of botocore's."""
    if isinstance(problem, exceptions.ClientError):
        return _answered(problem)
    if isinstance(problem, exceptions.NoRegionError):
        return NotConfigured(
            "No AWS region is set.",
            fix="Set MCP_DEVOPS_CLOUDWATCH__REGION, or AWS_REGION.",
            source=SOURCE,
        )
    if isinstance(problem, exceptions.ProfileNotFound):
        return NotConfigured(
            "The AWS profile does not exist.",
            fix="Correct MCP_DEVOPS_CLOUDWATCH__PROFILE or AWS_PROFILE.",
            source=SOURCE,
        )
    if isinstance(problem, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return NotConfigured(
            "No complete AWS credentials were found.",
            fix="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
            " MCP_DEVOPS_CLOUDWATCH__PROFILE.",
            source=SOURCE,
        )
    stale = (
        exceptions.SSOError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.NoAuthTokenError,
    )
    if isinstance(problem, stale):
        return CredentialsRejected(
            "AWS credentials could not be had, or have expired.",
            fix="Renew them (`aws sso login`, or the profile's own way) and repeat.",
            source=SOURCE,
        )
    if isinstance(problem, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError):
        return UpstreamTimeout(
            "CloudWatch did not answer in time.",
            fix="Wait and repeat; raise MCP_DEVOPS_CLOUDWATCH__TIMEOUT_S if it stays.",
            source=SOURCE,
        )
    return UpstreamUnavailable(
        f"CloudWatch cannot be reached ({type(problem).__name__}).",
        fix="Check the region, MCP_DEVOPS_CLOUDWATCH__ENDPOINT_URL and the network.",
        source=SOURCE,
    )


def _answered(problem: Any) -> DevOpsError:
    code = code_of(problem)
    status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = str(problem.response.get("Error", {}).get("Message", ""))
    operation = str(getattr(problem, "operation_name", ""))
    if code in DENIED or (status == 403 and code not in REJECTED):
        action = "sts:AssumeRole" if operation == "AssumeRole" else "cloudwatch:GetMetricData"
        return PermissionDenied(
            f"The AWS identity may not call {action}.",
            fix=f"Allow {action} to it in IAM; see `aws sts get-caller-identity`.",
            source=SOURCE,
            upstream=said,
            grants=[action],
        )
    if code in REJECTED:
        return CredentialsRejected(
            f"AWS refused the credentials ({code}).",
            fix="Renew them, and check the clock of this machine.",
            source=SOURCE,
            upstream=said,
        )
    if code in LIMITED:
        return RateLimited(
            f"CloudWatch asks for a pause ({code}).",
            fix="Wait and repeat.",
            source=SOURCE,
            upstream=said,
            retry_after_s=None,
        )
    if code in WRONG:
        return InvalidArguments(
            f"CloudWatch cannot run the query ({code}).",
            fix="Correct the metrics and dimensions in the settings, or step_s.",
            source=SOURCE,
            upstream=said,
        )
    return UpstreamUnavailable(
        f"CloudWatch failed (HTTP {status}).",
        fix="Wait and repeat; if it stays, check the region and the endpoint.",
        source=SOURCE,
        upstream=said,
    )
