"""The generic deployment webhook: what any pipeline can send with curl and openssl. Pure.

t=$(date +%s)
body='{"namespace":"shop","workload":"checkout"}'
sig=$(printf '%s.%s' "$t" "$body" | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1)
curl -H "X-Timestamp: $t" -H "X-Signature: sha256=$sig" -d "$body" .../webhooks/deployment
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from pydantic import Field, ValidationError

from mcp_devops.errors import InvalidArguments
from mcp_devops.model.record import Record
from mcp_devops.model.target import WorkloadKind

STAMP_DIGITS = 12
"""Digits of an epoch second that are read: enough for 30,000 years."""
_NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"


class Deployed(Record):
    """Something was deployed, says a pipeline."""

    namespace: str = Field(pattern=_NAME, max_length=63)
    """Namespace of the workload."""
    workload: str = Field(pattern=_NAME, max_length=253)
    """Its name."""
    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    """Deployment, StatefulSet or DaemonSet."""


def genuine(
    secret: str, headers: Mapping[str, str], body: bytes, now: datetime, tolerance_s: float
) -> bool:
    """Whether the body and its time are signed with our secret, and the time is near.

    Args:
        secret: The shared secret.
        headers: Names in lower case.
        body: The bytes as they came.
        now: The moment.
        tolerance_s: Seconds that the signed time may be off.
    """
    stamp, signature = headers.get("x-timestamp", ""), headers.get("x-signature", "")
    want = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(f"sha256={want}".encode(), signature.encode()):
        return False
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= STAMP_DIGITS):
        return False
    return abs(now.timestamp() - int(stamp)) <= tolerance_s


def parse(body: bytes) -> Deployed:
    """Read the body.

    Raises:
        InvalidArguments: It is not such a webhook; values are not repeated.
    """
    try:
        return Deployed.model_validate_json(body)
    except ValidationError as problem:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}"
            for e in problem.errors(include_input=False, include_url=False)[:5]
        )
        raise InvalidArguments(
            f"Not a deployment webhook: {wrong}.",
            fix='Send {"namespace": ..., "workload": ..., "kind": "Deployment"}.',
        ) from None
