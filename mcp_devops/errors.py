"""Every way a call can fail, sorted by who can fix it.

```
DevOpsError                  code, what happened, next move; never raised itself
  CallerError                the caller can fix it by calling differently
    InvalidArguments         INVALID_ARGUMENTS
    NotFound                 NOT_FOUND
    Ambiguous                AMBIGUOUS
    NoData                   NO_DATA: not the same as "fine"
    PreconditionFailed       PRECONDITION_FAILED: the object moved since it was judged
  OperatorError              a person must change credentials, RBAC or settings
    NotConfigured            NOT_CONFIGURED
    CredentialsRejected      CREDENTIALS_REJECTED
    PermissionDenied         PERMISSION_DENIED, with the grant that fixes it
    Unsupported              UNSUPPORTED
    WritesDisabled           WRITES_DISABLED
  ApprovalError              a person must say yes
    ApprovalRequired         APPROVAL_REQUIRED
    ApprovalDenied           APPROVAL_DENIED
    ApprovalExpired          APPROVAL_EXPIRED
  UpstreamError              waiting may fix it
    RateLimited              RATE_LIMITED
    UpstreamTimeout          UPSTREAM_TIMEOUT
    UpstreamUnavailable      UPSTREAM_UNAVAILABLE
    OutcomeUnknown           OUTCOME_UNKNOWN: sent, and no answer came
  InternalError              INTERNAL: our bug; details are in the log under the audit id
```

Codes are API; wording is not. Text that came from another system goes into `upstream`, bounded
and redacted by the gateway, never into our sentence.
"""

from __future__ import annotations

from typing import Any, ClassVar

UPSTREAM_TEXT_LIMIT = 256
"""Characters of foreign text an error carries; enough for a status message, too little to flood."""


class DevOpsError(Exception):
    """Base of all anticipated failures.

    Attributes:
        what: What happened, in our words.
        fix: The next move: a tool to call, a command to run, a setting to change.
        source: The system it happened at, or an empty string.
        upstream: Bounded text from that system; data, not instruction.
        details: Machine-readable facts (candidates, missing grants, seconds to wait).
    """

    code: ClassVar[str] = "ERROR"
    retryable: ClassVar[bool] = False

    def __init__(
        self, what: str, *, fix: str, source: str = "", upstream: str = "", **details: Any
    ) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.source = source
        self.upstream = upstream[:UPSTREAM_TEXT_LIMIT]
        self.details = details

    def __str__(self) -> str:
        said = f' The other side said (data): "{self.upstream}".' if self.upstream else ""
        return f"[{self.code}] {self.what} {self.fix}{said}"


class CallerError(DevOpsError):
    """The caller can fix it by calling differently."""


class InvalidArguments(CallerError):
    """An argument is unknown, missing or out of bounds."""

    code = "INVALID_ARGUMENTS"


class NotFound(CallerError):
    """The thing asked for does not exist where it was looked for."""

    code = "NOT_FOUND"


class Ambiguous(CallerError):
    """More than one thing fits."""

    code = "AMBIGUOUS"


class NoData(CallerError):
    """The query was answered and there was nothing in it. Not the same as healthy."""

    code = "NO_DATA"


class PreconditionFailed(CallerError):
    """The object is not what was judged any more, or not in a state that allows the action."""

    code = "PRECONDITION_FAILED"


class OperatorError(DevOpsError):
    """A person must change credentials, permissions or settings."""


class NotConfigured(OperatorError):
    """A setting that this call needs is absent."""

    code = "NOT_CONFIGURED"


class CredentialsRejected(OperatorError):
    """The other side does not accept who we say we are."""

    code = "CREDENTIALS_REJECTED"


class PermissionDenied(OperatorError):
    """The identity is known and may not do this. `details["grants"]` says what is missing."""

    code = "PERMISSION_DENIED"


class Unsupported(OperatorError):
    """The other side, or this installation, cannot do it."""

    code = "UNSUPPORTED"


class WritesDisabled(OperatorError):
    """The server was started without permission to change this."""

    code = "WRITES_DISABLED"


class ApprovalError(DevOpsError):
    """A person must say yes."""


class ApprovalRequired(ApprovalError):
    """A stored approval waits for a person; the call did nothing."""

    code = "APPROVAL_REQUIRED"


class ApprovalDenied(ApprovalError):
    """A person, or a dismissed dialog, said no."""

    code = "APPROVAL_DENIED"


class ApprovalExpired(ApprovalError):
    """Nobody answered in time. That is a no."""

    code = "APPROVAL_EXPIRED"


class UpstreamError(DevOpsError):
    """Waiting may fix it."""

    retryable = True


class RateLimited(UpstreamError):
    """The other side asked for a pause. `details["retry_after_s"]` says how long, where known."""

    code = "RATE_LIMITED"


class UpstreamTimeout(UpstreamError):
    """The deadline passed before an answer came; nothing was changed."""

    code = "UPSTREAM_TIMEOUT"


class UpstreamUnavailable(UpstreamError):
    """The other side could not be reached, or answered with a failure of its own."""

    code = "UPSTREAM_UNAVAILABLE"


class OutcomeUnknown(UpstreamError):
    """A change was sent and no answer came: it may or may not have happened."""

    code = "OUTCOME_UNKNOWN"
    retryable = False


class InternalError(DevOpsError):
    """Our bug. The caller sees an audit id, the log has the rest."""

    code = "INTERNAL"
