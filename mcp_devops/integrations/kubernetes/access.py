"""May we? Asked of the API server for every need at once, before a diagnosis or action starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.names import Place
from mcp_devops.integrations.kubernetes.paths import grant_command, path_of
from mcp_devops.integrations.kubernetes.together import together
from mcp_devops.model.record import Record
from mcp_devops.text.people import plural
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.integration import Denied
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

REMEMBER_S = 60.0
"""Seconds a yes is remembered. A no is asked again: somebody may be granting it right now."""
CLUSTER_SCOPE = "cluster"
GRANT_ALL_FROM = 3
"""From this many missing permissions on, one manifest is easier to apply than single roles."""


async def denied(cluster: Cluster, namespace: str, needs: Iterable[Rbac]) -> list[Denied]:
    """Which of these permissions the context's identity lacks in a namespace.

    Raises:
        DevOpsError: The reviews could not be made: unknown is not allowed, and not denied either.
    """
    now = cluster.clock.monotonic()
    wanted = list(dict.fromkeys(needs))
    ask = [n for n in wanted if cluster.remembered.get(_key(n, namespace), -1.0) < now]
    answers = await together([_allowed(cluster, namespace, n) for n in ask])
    refused: list[Rbac] = []
    for need, answer in zip(ask, answers, strict=True):
        if isinstance(answer, DevOpsError):
            raise answer
        if answer:
            cluster.remembered[_key(need, namespace)] = now + REMEMBER_S
        else:
            refused.append(need)
    if not refused:
        return []
    user = await who_am_i(cluster)
    return [
        Denied(
            need=n,
            scope=CLUSTER_SCOPE if n.cluster_wide else namespace,
            identity=user,
            grant=grant_command(
                n.verb, n.resource, n.group, None if n.cluster_wide else namespace, user
            ),
        )
        for n in refused
    ]


def _key(need: Rbac, namespace: str) -> tuple[str, ...]:
    scope = "" if need.cluster_wide else namespace
    return (scope, need.verb, need.resource, need.group)


async def _allowed(cluster: Cluster, namespace: str, need: Rbac) -> bool:
    resource, _, subresource = need.resource.partition("/")
    attributes = {
        "verb": need.verb,
        "group": need.group,
        "resource": resource,
        **({"subresource": subresource} if subresource else {}),
        **({} if need.cluster_wide else {"namespace": namespace}),
    }
    review = await cluster.post(
        path_of("selfsubjectaccessreviews", "authorization.k8s.io"),
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
        changes=False,
    )
    return bool((review.get("status") or {}).get("allowed"))


async def who_am_i(cluster: Cluster) -> str:
    """The user the API server takes us for; empty where it does not say.

    Servers before 1.28 do not know the review, and refuse it to all but administrators with a
    message that names the user.
    """
    try:
        review = await cluster.post(
            path_of("selfsubjectreviews", "authentication.k8s.io"),
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            changes=False,
        )
        info = (review.get("status") or {}).get("userInfo") or {}
        return str(info.get("username", ""))
    except DevOpsError as failure:
        # A refusal names the user; anything else leaves the name unknown, which hurts nobody.
        return str(failure.details.get("user", ""))


async def check_access(
    client: KubernetesClient, args: Record, needs: Sequence[Rbac]
) -> Sequence[Denied]:
    """The gateway's preflight: needs that this call's identity lacks where the call looks."""
    context = getattr(args, "context", None)
    cluster = await client.cluster(context if isinstance(context, str) else None)
    namespace = getattr(args, "namespace", None)
    required = [n for n in needs if not n.optional]
    return await denied(
        cluster, namespace if isinstance(namespace, str) else cluster.namespace, required
    )


class AccessLine(Record):
    """One permission."""

    permission: str
    """Verb and resource."""
    allowed: bool
    """Whether we have it."""
    optional: bool = False
    """Whether tools answer without it, and say what is missing."""
    tools: tuple[str, ...] = ()
    """Tools that need it; for those that are missing."""
    grant: str | None = None
    """Command that grants it."""


class AccessReport(Answer):
    """What this identity may do."""

    identity: str = ""
    """Who the API server takes us for."""
    namespace: str
    """Where."""
    permissions: tuple[AccessLine, ...] = ()
    """Missing ones first."""
    grant_all: str | None = None
    """One command that grants all that is missing."""


class CheckAccessInput(Place):
    """Where to check."""


@tool(
    name="kubernetes_check_access",
    title="Check Kubernetes permissions",
    risk=Risk.READ,
)
async def check_kubernetes_access(
    args: CheckAccessInput, context: ToolContext[KubernetesClient]
) -> AccessReport:
    """Say which permissions the Kubernetes tools need in a namespace, and which are missing.

    Each missing one comes with the command that grants it. Use it when a tool was denied.
    """
    cluster = await context.client.cluster(args.context)
    namespace = args.namespace or cluster.namespace
    users = _users_of_needs()
    refused = {d.need: d for d in await denied(cluster, namespace, users)}
    lines = [
        AccessLine(
            permission=str(need),
            allowed=need not in refused,
            optional=need.optional,
            tools=tuple(tools) if need in refused else (),
            grant=refused[need].grant if need in refused else None,
        )
        for need, tools in users.items()
    ]
    lines.sort(key=lambda line: (line.allowed, line.optional, line.permission))
    user = next((d.identity for d in refused.values()), "") or await who_am_i(cluster)
    hurts = sum(not need.optional for need in refused)
    return AccessReport(
        headline=f"{user or 'This identity'} has {len(users) - len(refused)} of"
        f" {plural(len(users), 'permission')} in namespace {namespace} of context {cluster.name}"
        + (f"; {hurts} missing ones stop tools." if refused else "."),
        identity=user,
        namespace=namespace,
        permissions=tuple(lines),
        grant_all=f"mcp-devops rbac --namespace {namespace} | kubectl apply -f -"
        if len(refused) >= GRANT_ALL_FROM
        else None,
    )


def _users_of_needs() -> dict[Rbac, list[str]]:
    """Every declared need with its tools; what one tool cannot do without is not optional."""
    # Imported here: the integration's tuple holds this module's tool.
    from mcp_devops.integrations.kubernetes import INTEGRATION

    found: dict[Rbac, list[str]] = {}
    for spec in INTEGRATION.tools:
        for need in spec.needs:
            found.setdefault(need, []).append(spec.name)
    for need in [n for n in found if n.optional and n._replace(optional=False) in found]:
        found[need._replace(optional=False)] += found.pop(need)
    return found
