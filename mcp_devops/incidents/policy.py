"""The decision policy in force: the defaults, with the operator's file over them."""

from __future__ import annotations

import tomllib

from pydantic import ValidationError

from mcp_devops.decision.policy import Policy
from mcp_devops.errors import NotConfigured
from mcp_devops.settings import ServerSettings


def load_policy(settings: ServerSettings) -> Policy:
    """Read the policy file, or take the defaults.

    Raises:
        NotConfigured: The file cannot be read, has an unknown key, or a number out of bounds.
    """
    path = settings.policy_file
    if path is None:
        return Policy()
    try:
        return Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise NotConfigured(
            f"The policy file {path} cannot be read: {problem}.",
            fix="Correct it, or unset MCP_DEVOPS_POLICY_FILE.",
        ) from problem
    except ValidationError as problem:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        raise NotConfigured(
            f"The policy file {path} is not valid: {wrong}.",
            fix="`incident_explain` with topic policy lists every number and its bounds.",
        ) from problem
