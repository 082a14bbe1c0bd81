"""Looks at a change before Claude Code sends it: one gate more in front of the server's own.

Reads the hook's JSON on standard input and answers deny, ask, or nothing (the usual rules go on).
It never allows. From the arguments alone it can tell that the namespace is one where changes were
switched on, that the call names the revision that was judged, and that a rollback goes through an
incident. Whether that incident has a fresh verdict, whether the workload has moved, and who may
approve, the server checks: no hook can.

Variables:
    INCIDENT_GUARD           deny: no change at all. ask: a rollback outside an incident is asked
                             for instead of denied.
    MCP_DEVOPS_ALLOW_WRITES  Namespace patterns for changes, separated by commas; where the plugin
                             is configured, its own setting counts instead.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

PREFIX = re.compile(r"^mcp__(?:plugin_incident-response_)?incident__")
INCIDENT_ID = re.compile(r"^inc-[0-9a-f]{8}$")
NAMESPACED = ("kubernetes_roll_back", "kubernetes_restart_rollout", "kubernetes_pause_rollout")
"""Change tools that name their namespace themselves."""
JUDGED = ("kubernetes_roll_back", "kubernetes_restart_rollout")
"""Change tools that must say which live revision they mean."""
CHANGES = ("incident_roll_back", *NAMESPACED)
"""Every tool that changes something."""


class Decision(NamedTuple):
    """deny or ask, and why."""

    word: str
    reason: str


def decide(tool: str, arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Decision | None:
    """What to say about a call; None: nothing."""
    if tool not in CHANGES:
        return None
    mode = environ.get("INCIDENT_GUARD", "").strip().lower()
    if mode == "deny":
        return Decision("deny", "Changes are switched off here (INCIDENT_GUARD=deny).")
    if tool == "incident_roll_back":
        return _by_incident(arguments)
    return _by_workload(tool, arguments, environ, mode)


def _by_incident(arguments: Mapping[str, Any]) -> Decision | None:
    if not INCIDENT_ID.match(str(arguments.get("incident_id", ""))):
        return Decision(
            "deny",
            "incident_roll_back needs the incident_id of a judged incident (inc- and 8 hex"
            " digits): call incident_investigate, then incident_decide.",
        )
    if arguments.get("despite_verdict"):
        return Decision("ask", "The verdict is not roll_back; only a person may decide otherwise.")
    return None


def _by_workload(
    tool: str, arguments: Mapping[str, Any], environ: Mapping[str, str], mode: str
) -> Decision | None:
    patterns = _patterns(environ)
    namespace = arguments.get("namespace")
    if not patterns:
        return Decision("deny", "No namespace is configured for changes; this setup is read-only.")
    if not isinstance(namespace, str) or not namespace:
        return Decision("deny", f"{tool} must name its namespace; a default may be another one.")
    if not any(fnmatchcase(namespace, pattern) for pattern in patterns):
        return Decision(
            "deny", f"Namespace {namespace!r} is not open for changes, only: {', '.join(patterns)}."
        )
    revision = arguments.get("from_revision")
    if tool in JUDGED and (not isinstance(revision, int) or isinstance(revision, bool)):
        return Decision(
            "deny", f"{tool} must name from_revision, the live revision it means to change."
        )
    if tool == "kubernetes_roll_back":
        return Decision(
            "ask" if mode == "ask" else "deny",
            "This rollback has no incident and so no verdict. Use incident_investigate,"
            " incident_decide, then incident_roll_back with the incident_id.",
        )
    if arguments.get("context"):
        return Decision("ask", "The call names a cluster of its own: check that it is the one.")
    return None


def _patterns(environ: Mapping[str, str]) -> list[str]:
    named = environ.get("CLAUDE_PLUGIN_OPTION_ALLOW_WRITES")
    if not named:
        named = environ.get("MCP_DEVOPS_ALLOW_WRITES", "")
    return [part.strip() for part in named.split(",") if part.strip()]


def main() -> int:
    """Answer one hook call; what cannot be read is blocked, not waved through."""
    try:
        call = json.load(sys.stdin)
        tool = PREFIX.sub("", call["tool_name"])
        arguments = call.get("tool_input") or {}
        decision = decide(tool, arguments, os.environ)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        sys.stderr.write(f"guard: the hook's input cannot be read ({type(problem).__name__}).\n")
        return 2
    if decision is not None:
        answer = {
            "hookEventName": "PreToolUse",
            "permissionDecision": decision.word,
            "permissionDecisionReason": decision.reason,
        }
        json.dump({"hookSpecificOutput": answer}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
