"""The base of everything that crosses a room: immutable, closed, documented by its docstrings."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import to_json


class Record(BaseModel):
    """Immutable data with no unknown fields; a field's docstring is its schema description."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time without a zone does not belong on a timeline")
    return value


Moment = Annotated[datetime, AfterValidator(_aware)]
"""A point in time, always with a zone; serialised as RFC 3339."""


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the form that digests are taken of."""
    import json

    return json.dumps(
        json.loads(to_json(value)), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON form, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
