"""The chart, rendered and linted by Helm's own engine, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "mcp-devops"
WHY_NOT = "needs Helm's engine: pip install --require-hashes -r deploy/helm/requirements.txt"
AVAILABLE = importlib.util.find_spec("helm_python") is not None
"""Whether the package is installed. It is 85 MB of Go, which no test process needs in itself."""
ASK = """\
import json, sys
import helm_python as helm
asked = json.load(sys.stdin)
try:
    with helm.Chart.load(asked["chart"]) as chart:
        chart.validate_schema(asked["values"])
        told = chart.render(asked["values"], name=asked["name"], namespace=asked["namespace"])
    lint = helm.lint(asked["chart"])
except helm.HelmError as problem:
    json.dump({"refused": str(problem)}, sys.stdout)
else:
    json.dump({"files": told, "lint": lint["messages"], "errors": lint["errors"]}, sys.stdout)
"""


class Refused(Exception):
    """Helm renders nothing with these values."""


def _asked(values: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    given = {"chart": str(CHART), "values": values, "name": name, "namespace": namespace}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK],
        check=True,
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    if "refused" in told:
        raise Refused(told["refused"])
    return told


def rendered(
    values: dict[str, Any] | None = None, name: str = "mcp-devops", namespace: str = "mcp-devops"
) -> list[dict[str, Any]]:
    """The chart's objects.

    Raises:
        Refused: With what Helm says of the values.
    """
    files = _asked(values or {}, name, namespace)["files"]
    found = [m for path in sorted(files) for m in yaml.safe_load_all(files[path]) if m]
    return found


def lint() -> list[str]:
    """What Helm has against the chart."""
    told = _asked({}, "mcp-devops", "mcp-devops")
    return [f"{m['path']}: {m['error']}" for m in told["lint"]] + list(map(str, told["errors"]))
