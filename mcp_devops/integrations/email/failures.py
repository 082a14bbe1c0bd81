"""What a mail server's refusals mean for whoever must fix them."""

from __future__ import annotations

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    OutcomeUnknown,
    Unsupported,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.text.clean import clean
from mcp_devops.text.secrets import Redactor

SOURCE = "email"


def mapped(problem: Exception, redactor: Redactor, *, in_data: bool = False) -> DevOpsError:
    """Our error for a failure of the SMTP conversation.

    Args:
        problem: An SMTPException or OSError.
        redactor: Knows the password: servers have been seen to echo what they were told.
        in_data: Whether the text was under way: without an answer nobody knows what became of it.
    """
    import aiosmtplib

    if isinstance(problem, aiosmtplib.SMTPResponseException):
        return _response(problem, redactor)
    # The library raises its base class itself where STARTTLS or AUTH is not offered.
    if (
        isinstance(problem, aiosmtplib.SMTPNotSupported)
        or type(problem) is aiosmtplib.SMTPException
    ):
        return Unsupported(
            "The mail server does not offer the encryption or the login that is set.",
            fix="Check MCP_DEVOPS_EMAIL__TLS and PORT: 587 speaks starttls, 465 speaks ssl.",
            source=SOURCE,
        )
    if _about_tls(problem):
        return Unsupported(
            "No trusted encrypted connection to the mail server could be made.",
            fix="Check MCP_DEVOPS_EMAIL__HOST, TLS and PORT; set CA_FILE for a private issuer.",
            source=SOURCE,
        )
    if in_data:
        return OutcomeUnknown(
            "The mail was sent and no answer came.", fix="Send it again.", source=SOURCE
        )
    if isinstance(problem, TimeoutError):
        return UpstreamTimeout(
            "The mail server did not answer in time.",
            fix="Raise MCP_DEVOPS_EMAIL__TIMEOUT_S, or look at the network.",
            source=SOURCE,
        )
    return UpstreamUnavailable(
        f"The mail server cannot be reached ({type(problem).__name__}).",
        fix="Check MCP_DEVOPS_EMAIL__HOST and PORT, and the network.",
        source=SOURCE,
    )


def _response(problem: Exception, redactor: Redactor) -> DevOpsError:
    import aiosmtplib

    code = int(getattr(problem, "code", 0))
    said = " ".join(clean(str(getattr(problem, "message", ""))[:1000], redactor).split())
    if isinstance(problem, aiosmtplib.SMTPAuthenticationError) and code >= 500:
        return CredentialsRejected(
            f"The mail server refuses the login ({code}).",
            fix="Check MCP_DEVOPS_EMAIL__USERNAME and PASSWORD.",
            source=SOURCE,
            upstream=said,
        )
    if code >= 500:
        return InvalidArguments(
            f"The mail server refuses the mail for good ({code}).",
            fix="Look at what it says: the sender, the size, or its policy.",
            source=SOURCE,
            upstream=said,
        )
    return UpstreamUnavailable(
        f"The mail server does not take mail now ({code}).",
        fix="Send it again later; use another channel meanwhile.",
        source=SOURCE,
        upstream=said,
    )


def _about_tls(problem: BaseException | None) -> bool:
    """Whether the handshake was the trouble; libraries wrap it."""
    import ssl

    for _ in range(5):
        if isinstance(problem, ssl.SSLError):
            return True
        problem = problem.__cause__ or problem.__context__ if problem else None
    return False
