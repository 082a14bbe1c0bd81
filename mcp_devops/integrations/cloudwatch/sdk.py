"""The one place that imports boto3 (0.2 s, an extra): on the first call, in a worker thread."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import Any, NamedTuple

from mcp_devops.errors import NotConfigured

INSTALL = "pip install 'mcp-devops[aws]'"


class Sdk(NamedTuple):
    """The modules that are used of it; untyped."""

    boto3: Any
    botocore_session: Any
    config: Any
    credentials: Any
    exceptions: Any


def is_installed() -> bool:
    """Whether boto3 can be imported; does not import it."""
    return importlib.util.find_spec("boto3") is not None


def load() -> Sdk:
    """Import it.

    Raises:
        NotConfigured: It is not installed.
    """
    try:
        kit = Sdk(
            boto3=importlib.import_module("boto3"),
            botocore_session=importlib.import_module("botocore.session"),
            config=importlib.import_module("botocore.config"),
            credentials=importlib.import_module("botocore.credentials"),
            exceptions=importlib.import_module("botocore.exceptions"),
        )
    except ImportError as missing:
        raise NotConfigured(
            "boto3 is not installed.", fix=f"{INSTALL}.", source="cloudwatch"
        ) from missing
    # At DEBUG it writes whole requests, session token included, into the log.
    for name in ("boto3", "botocore"):
        logging.getLogger(name).setLevel(logging.INFO)
    return kit
