"""What `doctor` looks at, one line a thing, each failing line with its next move."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from mcp_devops.catalog import Catalog, Member, discover, published
from mcp_devops.cli.standing import standing_in
from mcp_devops.errors import DevOpsError
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import database_path, open_gateway
from mcp_devops.journal.database import Database
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.settings import (
    OwnTable,
    ServerSettings,
    config_file,
    unknown_tables,
    unknown_variables,
)
from mcp_devops.text.people import plural
from mcp_devops.toolkit.integration import Denied, Scope

DEADLINE_S = 15.0
"""Seconds one integration may take to answer a look."""


@dataclass(frozen=True)
class Line:
    """One finding. state: ok, off, bad or note."""

    state: str
    what: str
    says: str
    fix: str = ""


def setting_tables() -> list[type[OwnTable]]:
    """Every table of settings that exists."""
    from mcp_devops.responder.settings import HousekeepingSettings
    from mcp_devops.response_policy.settings import ResponseSettings
    from mcp_devops.server.settings import HttpSettings
    from mcp_devops.webhooks.settings import WebhookSettings

    own: list[type[OwnTable]] = [ServerSettings, HttpSettings, ResponseSettings, WebhookSettings]
    own.append(HousekeepingSettings)
    return [*own, *(i.settings for i in discover())]


def setting_rows() -> list[tuple[str, str, str]]:
    """(variable, value in force, meaning) of every setting; secrets are masked."""
    rows = []
    for table in setting_tables():
        loaded = table.load()
        for name, info in table.model_fields.items():
            value = getattr(loaded, name)
            secret = isinstance(value, SecretStr) or not info.repr
            shown = "(set, hidden)" if secret and value else _shown(value)
            rows.append((table.env_prefix() + name.upper(), shown, info.description or ""))
    return rows


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


async def look(
    settings: ServerSettings, namespace: str | None, environ: Mapping[str, str]
) -> list[Line]:
    """Look at everything; a broken part is a line, not the end."""
    lines = _environment(environ)
    try:
        async with open_gateway(settings, channel="doctor", looks_only=True) as gateway:
            lines += await _journal(gateway, settings)
            lines += _switches(settings, gateway.catalog)
            lines += await _standing(gateway)
            lines += _team_policy(await gateway.services.get(PolicyFile))
            looks = [_integration(gateway, m, namespace) for m in gateway.catalog.members]
            for found in await asyncio.gather(*looks):
                lines += found
    except DevOpsError as problem:
        lines.append(Line("bad", "start", problem.what, problem.fix))
    return lines


def _environment(environ: Mapping[str, str]) -> list[Line]:
    lines = []
    try:
        path = config_file()
        lines.append(Line("ok" if path else "note", "config", str(path or "no mcp-devops.toml")))
        tables = setting_tables()
        known = f"A typo? Known tables: {', '.join(sorted(t.table for t in tables))}."
        lines += [
            Line("bad", "config", f"[{name}] matches no table, so it is ignored.", known)
            for name in unknown_tables(tables)
        ]
    except DevOpsError as problem:
        lines.append(Line("bad", "config", problem.what, problem.fix))
    lines += [
        Line("bad", "environment", f"{v} matches no setting, so it is ignored.", "A typo? See"
             " `mcp-devops settings`.")
        for v in unknown_variables(setting_tables(), environ)
    ]  # fmt: skip
    return lines


async def _journal(gateway: Gateway, settings: ServerSettings) -> list[Line]:
    report = await gateway.journal.verify()
    path = database_path(settings)
    lines = [Line("ok" if report.ok else "bad", "journal", f"{path}: {report.says}")]
    unfinished = await gateway.journal.unfinished()
    actions = [e for e in unfinished if e.kind.value == "action_started"]
    if actions:
        lines.append(
            Line(
                "bad",
                "journal",
                f"{len(actions)} change(s) were started and have no outcome: a crash.",
                f"See `mcp-devops audit show {actions[0].seq}`, then look which revision is live.",
            )
        )
    return lines


def _switches(settings: ServerSettings, catalog: Catalog) -> list[Line]:
    writes = ", ".join(settings.allow_writes)
    alone = ", ".join(settings.automatic_namespaces)
    return [
        Line("note", "writes", f"allowed in {writes}" if writes else "off: read-only"),
        Line("note", "automatic", f"policy may approve in {alone}" if alone else "off: a person"),
        Line("note", "channels", ", ".join(settings.approval_channels)),
        Line("note", "tools", f"{len(published(catalog, settings))} published"),
    ]


async def _standing(gateway: Gateway) -> list[Line]:
    """Freezes, the breaker, and what people were to be told and were not."""
    database, now = await gateway.services.get(Database), gateway.clock.now()
    found = await database.read(lambda c: standing_in(c, now))
    lines = [Line("note", "freeze", f.says()) for f in found.freezes]
    if found.breaker.is_open:
        since = f" since {found.breaker.at:%Y-%m-%d %H:%M} UTC" if found.breaker.at else ""
        says = f"open{since} ({found.breaker.reason}): nothing is done alone"
        fix = "Find out what the rollbacks have in common, then `mcp-devops unfreeze --breaker`."
        lines.append(Line("bad", "breaker", says, fix))
    for unheard in found.unheard:
        count = plural(unheard.count, "message")
        says = f"{unheard.channel}: {count} of the last day did not arrive"
        fix = f"The newest one's problem: {unheard.problem[:300]}"
        lines.append(Line("bad", "people", says, fix))
    return lines


def _team_policy(team: PolicyFile) -> list[Line]:
    """Whether the response policy is valid: no server starts with one that is not."""
    policy, problem = team.current, team.problem
    if problem is not None:
        fix = f"No server starts with it. `mcp-devops policy check {problem.file}`."
        return [Line("bad", "policy", says, fix) for says in problem.says]
    if not policy.origin:
        return [Line("note", "policy", "none: nothing is done alone, a person is asked")]
    from mcp_devops.cli.policy_reach import people_missed

    missed = people_missed(policy.document.defaults)
    return [
        Line("ok", "policy", f"{policy.origin}, version {policy.version}"),
        *(Line("note", "policy", f"defaults: {says}") for says in missed),
    ]


async def _integration(gateway: Gateway, member: Member, namespace: str | None) -> list[Line]:
    name = str(member.integration.name)
    if member.why_off is not None:
        return [Line("off", name, member.why_off)]
    if member.integration.ping is None:
        return []
    client = await gateway.services.get(member.integration.client)
    try:
        async with asyncio.timeout(DEADLINE_S):
            health = await member.integration.ping(client)
            lines = [Line("ok" if health.ok else "bad", name, health.says, health.fix)]
            if health.ok and member.integration.check_access is not None:
                lines += await _permissions(gateway, member, client, namespace)
    except TimeoutError:
        return [Line("bad", name, f"no answer within {DEADLINE_S:g} s", "Check the network.")]
    except DevOpsError as problem:
        return [Line("bad", name, problem.what, problem.fix)]
    return lines


async def _permissions(
    gateway: Gateway, member: Member, client: Any, namespace: str | None
) -> Sequence[Line]:
    assert member.integration.check_access is not None  # noqa: S101 - the caller checked
    specs = published(gateway.catalog, gateway.settings)
    needs = list(dict.fromkeys(n for spec in specs for n in spec.needs))
    denied = await member.integration.check_access(client, Scope(namespace=namespace), needs)
    lines = []
    required = [d for d in denied if not d.need.optional]
    if required:
        missing = ", ".join(dict.fromkeys(str(d.need) for d in required))
        says = f"not allowed in {required[0].scope}: {missing}"
        lines.append(Line("bad", "permission", says, _one_grant(required, gateway)))
    optional = [d for d in denied if d.need.optional]
    if optional:
        unseen = ", ".join(dict.fromkeys(str(d.need) for d in optional))
        says = f"answers will say what they could not see: {unseen}"
        lines.append(Line("note", "permission", says, _one_grant(optional, gateway)))
    if not denied:
        lines.append(Line("ok", "permission", f"all {len(needs)} that the tools need"))
    return lines


def _one_grant(denied: Sequence[Denied], gateway: Gateway) -> str:
    """One command for a cluster admin instead of one a permission; a single one is its own."""
    if len(denied) == 1:
        return denied[0].grant
    who = denied[0].identity
    if who.startswith("system:serviceaccount:"):
        _, _, home, name = who.split(":", 3)
        subject = f"--name {name} --account-namespace {home}"
    else:
        subject = f"--user {shlex.quote(who)}" if who else "--user USER"
    scope = next((d.scope for d in denied if not d.need.cluster_wide), "NAMESPACE")
    writes = " --writes" if gateway.settings.allow_writes else ""
    return f"mcp-devops rbac -n {scope} {subject}{writes} | kubectl apply -f -"
