"""What the program's complaints mean in our error tree: who can mend it, and how. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    UpstreamUnavailable,
)
from mcp_devops.integrations.terraform.plan import Diagnostic
from mcp_devops.text.clean import clean

SOURCE = "terraform"
_NEEDS_INIT = re.compile(
    r"plugins are not installed|module not installed|inconsistent dependency lock"
    r"|backend initialization required|initialization required|missing required provider"
    r"|could not load plugin|module source has changed|backend configuration changed"
    r"|please run \"?\w+ init|failed to load plugin schemas",
    re.IGNORECASE,
)
_EXPIRED = re.compile(
    r"expired ?token|token (?:has|is) expired|credentials? (?:have|has|are|is) expired"
    r"|no valid credential|invalidclienttokenid|signaturedoesnotmatch|unrecognizedclient"
    r"|could not find default credentials|\b401\b|unauthorized|unauthenticated|invalid_grant"
    r"|authentication (?:failed|required)|az login|security token.{0,40}(?:invalid|expired)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"access ?denied|\b403\b|forbidden|not authorized|permission denied|unauthorizedoperation",
    re.IGNORECASE,
)
_LIMITED = re.compile(r"\b429\b|throttl|rate exceeded|rate limit|too many requests", re.IGNORECASE)
_LOCK_FIELD = re.compile(r"^\s*(ID|Path|Operation|Who|Created):[ \t]*(.{0,200})$", re.MULTILINE)
_VARIABLE = re.compile(r'variable "([^"]{1,100})"')
_SYNTAX = re.compile(
    r"invalid (?:expression|block|character|argument|multi-line|function|reference|template)"
    r"|unsupported (?:argument|block type|attribute)|argument or block definition required"
    r"|unclosed|missing (?:newline|required argument|key/value|attribute|item)|unterminated"
    r"|reference to undeclared|duplicate (?:resource|variable|provider|module|output)"
    r"|unexpected|extra characters|incorrect attribute value|call to unknown function",
    re.IGNORECASE,
)
_BOX = re.compile(r"^[│╷╵\s]+", re.MULTILINE)


def from_text(text: str) -> list[Diagnostic]:
    """The errors in plain output, as commands without JSON write them."""
    plain = _BOX.sub("", clean(text))
    parts = re.split(r"^Error: ", plain, flags=re.MULTILINE)[1:]
    return [Diagnostic("error", head, body) for head, _, body in (p.partition("\n") for p in parts)]


def failure(
    said: Sequence[Diagnostic], code: int, program: str = "terraform", stderr: str = ""
) -> DevOpsError:
    """The error that a failed run becomes.

    Args:
        said: Its diagnostics; warnings are ignored.
        code: Its exit code.
        program: Name of the program, for the next move.
        stderr: What it wrote beside them, used where it gave no diagnostics.
    """
    errors = [d for d in said if d.severity == "error"] or from_text(stderr)
    text = "\n".join(f"{d.summary}\n{d.detail}" for d in errors) or clean(stderr)
    upstream = " ".join(clean(text).split())
    first = errors[0] if errors else Diagnostic("error", "", "")
    if "acquiring the state lock" in text:
        return _locked(text, upstream)
    if "No configuration files" in text:
        return NotFound(
            "The directory holds no configuration.",
            fix="Name the directory of a root module.",
            source=SOURCE,
        )
    if "No value for required variable" in text:
        named = sorted(set(_VARIABLE.findall(text)))
        return InvalidArguments(
            f"Variables have no value: {', '.join(named) or 'unnamed'}.",
            fix="Name a file in var_files, or pass TF_VAR_... by MCP_DEVOPS_TERRAFORM__PASS_ENV.",
            source=SOURCE,
            variables=named,
        )
    if _NEEDS_INIT.search(text):
        return NotConfigured(
            "The directory is not initialised: a provider, module or backend is missing.",
            fix=f"A person runs `{program} init` there; this server never does.",
            source=SOURCE,
            upstream=upstream,
            reason="needs_init",
        )
    return _of_the_other_side(text, upstream) or _of_the_configuration(first, code, upstream)


def _of_the_other_side(text: str, upstream: str) -> DevOpsError | None:
    if _EXPIRED.search(text):
        return CredentialsRejected(
            "The provider or backend does not accept the credentials, or has none.",
            fix="Renew them; variables reach the run only by MCP_DEVOPS_TERRAFORM__PASS_ENV.",
            source=SOURCE,
            upstream=upstream,
        )
    if _LIMITED.search(text):
        return RateLimited(
            "The provider asks for a pause.", fix="Wait and repeat.", source=SOURCE,
            upstream=upstream,
        )  # fmt: skip
    if _DENIED.search(text):
        return PermissionDenied(
            "The credentials may not read a resource or the state.",
            fix="Grant the identity read access to what the message names.",
            source=SOURCE,
            upstream=upstream,
        )
    return None


def _of_the_configuration(first: Diagnostic, code: int, upstream: str) -> DevOpsError:
    if _SYNTAX.search(first.summary):
        place = f" at {clean(first.filename)}:{first.line}" if first.filename else ""
        return PreconditionFailed(
            f"The configuration is not valid{place}.",
            fix="Correct the configuration; nothing was compared.",
            source=SOURCE,
            upstream=upstream,
            file=clean(first.filename),
            line=first.line,
        )
    return UpstreamUnavailable(
        f"The run failed (exit code {code}).",
        fix="Read the message; repeat, or run the same plan by hand.",
        source=SOURCE,
        upstream=upstream,
    )


def _locked(text: str, upstream: str) -> DevOpsError:
    held = {name.lower(): clean(value).strip() for name, value in _LOCK_FIELD.findall(text)}
    who = f" by {held['who']}" if held.get("who") else ""
    since = f" since {held['created']}" if held.get("created") else ""
    return UpstreamUnavailable(
        f"The state is locked{who}{since}.",
        fix="Wait for that operation to end, or repeat without lock; never break the lock unseen.",
        source=SOURCE,
        upstream=upstream,
        reason="locked",
        lock=held,
    )
