"""`mcp-devops policy check | explain | example`: the response policy, for who writes it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_devops.cli.policy_reach import server_says
from mcp_devops.cli.recording import AsJson, open_records, tell
from mcp_devops.cli.serving import StateDir, server_settings
from mcp_devops.model.target import WorkloadKind

if TYPE_CHECKING:
    from mcp_devops.model.target import Workload
    from mcp_devops.responder.response import Response
    from mcp_devops.response_policy.policy import Explanation, ResponsePolicy

app = typer.Typer(help="Check and explain what may be done without a person.", no_args_is_help=True)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The YAML file.")],
    as_json: AsJson = False,
) -> None:
    """Check a policy file. Exit code 1: not valid, with file:line:column of every problem."""
    from mcp_devops.response_policy.parsing import Rejected, parse_policy
    from mcp_devops.text.people import plural

    found = parse_policy(_content(file), str(file), _base())
    if isinstance(found, Rejected):
        data = {"valid": False, "problems": list(found.problems)}
        tell("\n".join(found.problems), data, as_json=as_json)
        raise typer.Exit(1)
    scopes, hours = len(found.document.scopes), len(found.document.quiet_hours)
    tell(
        f"{file} is valid: version {found.version}, {plural(scopes, 'scope')},"
        f" {plural(hours, 'period')} of quiet hours.",
        {"valid": True, "version": found.version, "scopes": scopes, "quiet_hours": hours},
        as_json=as_json,
    )


@app.command()
def explain(
    workload: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The workload.")],
    kind: Annotated[
        WorkloadKind, typer.Option("--kind", help="Deployment, StatefulSet or DaemonSet.")
    ] = WorkloadKind.DEPLOYMENT,
    cluster: Annotated[str, typer.Option("--cluster", help="Kubeconfig context.")] = "",
    file: Annotated[
        Path | None, typer.Option("--file", help="Instead of the configured policy file.")
    ] = None,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Say which scope applies to a workload, and what an automatic verdict would lead to now."""
    target = _target(workload, kind, cluster)
    policy = _policy(file)
    found = policy.explain(target)
    response = asyncio.run(_respond(policy, found, target, state_dir))
    server = server_says(target, found.rules)
    data = {
        "target": target.model_dump(mode="json"),
        "policy_version": policy.version,
        "file": policy.origin or None,
        "scope": found.scope,
        "line": found.line,
        "why": found.why,
        "passed": list(found.passed),
        "rules": found.rules.model_dump(mode="json"),
        "decision_policy": found.judging.version,
        "now": response.model_dump(mode="json"),
        "server": server,
    }
    tell(_explained(policy, found, target, response, server), data, as_json=as_json)


@app.command()
def example() -> None:
    """Print a policy file with every section, to start from."""
    from importlib.resources import files

    text = files("mcp_devops.response_policy").joinpath("example.yaml")
    typer.echo(text.read_text(encoding="utf-8"), nl=False)


def _content(file: Path) -> bytes:
    from mcp_devops.errors import InvalidArguments
    from mcp_devops.response_policy.file import read_file

    try:
        return read_file(file)
    except OSError as problem:
        raise InvalidArguments(
            f"{file} cannot be read: {problem.strerror}.", fix="Name a policy file."
        ) from problem


def _base() -> Any:
    from mcp_devops.incidents.policy import load_policy

    return load_policy(server_settings([], [], [], None))


def _policy(file: Path | None) -> ResponsePolicy:
    from mcp_devops.response_policy.file import PolicyFile
    from mcp_devops.response_policy.settings import ResponseSettings
    from mcp_devops.toolkit.clock import SystemClock

    path = file or ResponseSettings.load().policy_file
    return PolicyFile(path, SystemClock(), _base()).require()


def _target(text: str, kind: WorkloadKind, cluster: str) -> Workload:
    from mcp_devops.errors import InvalidArguments
    from mcp_devops.model.target import Workload

    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise InvalidArguments(
            f"{text[:80]!r} names no workload.", fix="Write NAMESPACE/NAME, such as shop/checkout."
        )
    return Workload(cluster=cluster, namespace=namespace, kind=kind, name=name)


async def _respond(
    policy: ResponsePolicy, found: Explanation, target: Workload, state_dir: Path | None
) -> Response:
    """The response to a verdict that is as sure as one can be."""
    from mcp_devops.incidents.outcomes import record_of_all
    from mcp_devops.model.verdict import Action, Cause, Verdict
    from mcp_devops.responder.history import past_acts
    from mcp_devops.responder.response import decide_response
    from mcp_devops.responder.switches import breaker_of, frozen_by

    async with open_records(state_dir) as records:
        verdict = Verdict(
            id="example",
            target=target,
            decided_at=records.now,
            revision=None,
            action=Action.ROLL_BACK,
            cause=Cause.NEW_CODE,
            confidence=0.999,
            headline="An automatic verdict, for example.",
            prior=0.1,
            findings=(),
            causes=(),
            runner_up="",
            ask_next="",
            evidence_complete=True,
            automatic=True,
            policy_version=found.judging.version,
        )
        return decide_response(
            verdict,
            target,
            policy,
            records.now,
            await frozen_by(records.database, target, records.now),
            await past_acts(records.database, records.now),
            breaker=await breaker_of(records.database),
            record=await record_of_all(records.database),
        )


def _explained(
    policy: ResponsePolicy,
    found: Explanation,
    target: Workload,
    response: Response,
    server: list[str],
) -> str:
    rules = found.rules
    where = f"{policy.origin}:{found.line}" if found.line else policy.origin or "no policy file"
    thresholds = [
        f"{group}.{name}={'null' if value is None else f'{value:g}'}"
        for group, numbers in rules.thresholds.items()
        for name, value in numbers.items()
    ]
    told = [
        "PagerDuty" if rules.page.pagerduty else "",
        rules.page.slack_channel or "",
        *rules.page.email,
    ]
    lines = [
        f"{target}: {found.scope} ({where}), policy {policy.version}",
        f"  {found.why}",
        *(f"  passed over: {passed}" for passed in found.passed),
        f"  automatic: {rules.automatic.value}; without data: {rules.without_data.value}",
        f"  watched for {rules.observe.for_s:g} s every {rules.observe.step_s:g} s",
        f"  thresholds: {', '.join(thresholds) or 'as the decision policy'}",
        f"  asked for {rules.approval.wait_minutes:g} min:"
        f" {', '.join(rules.approval.approvers) or 'whoever a channel lets answer'}",
        f"  told ({rules.page.severity.value}): {', '.join(filter(None, told)) or 'nobody'}",
        f"An automatic verdict to roll back would now lead to: {response.kind.value}",
        *(f"  {reason}" for reason in response.reasons[1:]),
        *(f"But by the server's settings as seen here: {says}" for says in server),
    ]
    return "\n".join(lines)
