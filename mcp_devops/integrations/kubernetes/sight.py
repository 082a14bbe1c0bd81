"""A workload with its revisions at one moment, and the checks before a change to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcp_devops.errors import DevOpsError, PreconditionFailed
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.revisions import (
    Json,
    history,
    images_of,
    is_paused,
    live_holder,
    managed_by,
    metadata_of,
    number_of,
    template_hash,
)
from mcp_devops.integrations.kubernetes.rollouts import AUTOSCALERS, warnings_of
from mcp_devops.integrations.kubernetes.settling import blocking_pod
from mcp_devops.integrations.kubernetes.snapshot import holders_of, selector_of
from mcp_devops.integrations.kubernetes.together import together
from mcp_devops.model.target import Workload
from mcp_devops.text.clean import clean


@dataclass(frozen=True)
class Sight:
    """A workload with its revisions, as they are at one moment."""

    target: Workload
    workload: Json
    holders: Sequence[Json]
    """Its own, newest number first."""
    pods: Sequence[Json] = ()
    """Empty where they may not be read."""
    autoscalers: Sequence[Json] = field(default_factory=tuple)

    @property
    def live(self) -> Json | None:
        """The holder of the live template."""
        return live_holder(self.workload, self.holders)

    @property
    def number(self) -> int | None:
        """Number of the live revision; None: not recorded yet."""
        return number_of(self.live) if self.live is not None else None

    @property
    def uid(self) -> str:
        """Uid of the workload."""
        return str(metadata_of(self.workload).get("uid", ""))

    def warnings(self) -> list[str]:
        """What a person should know before the template changes."""
        kind = self.target.kind
        found = warnings_of(self.workload, kind, managed_by(self.workload, kind, self.autoscalers))
        if blocked := blocking_pod(kind, self.workload, list(self.pods)):
            found.append(blocked)
        return found


async def see(cluster: Cluster, target: Workload, *, around: bool = True) -> Sight:
    """Read a workload and its revisions; `around` adds pods and autoscalers where permitted.

    Raises:
        NotFound: It is not there.
        PermissionDenied: It or its revisions may not be read.
    """
    workload = await cluster.find(target.kind.resource, "apps", target.namespace, target.name)
    query: dict[str, str | int] = {"labelSelector": selector_of(workload)}
    resource, namespace = holders_of(target.kind), target.namespace
    asks = [cluster.list_all(path_of(resource, "apps", namespace=namespace), query)]
    if around:
        asks.append(cluster.list_all(path_of("pods", namespace=namespace), query))
        path = path_of(AUTOSCALERS.resource, AUTOSCALERS.group, namespace=namespace)
        asks.append(cluster.list_all(path))
    holders, *rest = await together(asks)
    if isinstance(holders, DevOpsError):
        raise holders
    pods, autoscalers = ([] if isinstance(r, DevOpsError) else r for r in (rest or ([], [])))
    return Sight(target, workload, history(workload, holders), pods, autoscalers)


def expect(sight: Sight, uid: str | None, number: int | None, judged: str | None) -> None:
    """Refuse what is not the object, revision or template that was judged; None: not asked.

    Raises:
        PreconditionFailed: It moved; `details` say what is live now.
    """
    if uid is not None and uid != sight.uid:
        raise moved(sight, "it was deleted and made anew")
    if number is not None and number != sight.number:
        raise moved(sight, f"revision {number} is not the live one")
    if judged is not None and judged != template_hash(sight.workload):
        raise moved(sight, "its pod template is not the one that was judged")


def moved(sight: Sight, how: str) -> PreconditionFailed:
    """The refusal of a change to something that is not what was judged."""
    images = ", ".join(clean(i) for i in images_of(sight.workload))
    now = "a template that its controller has not recorded yet"
    if sight.number is not None:
        now = f"revision {sight.number}"
    return PreconditionFailed(
        f"{sight.target} moved: {how}. Live now: {now} ({images}). Nothing was changed.",
        fix="Call kubernetes_get_rollout, judge what is live now, and decide anew.",
        source="kubernetes",
        moved=True,
        live_revision=sight.number,
        live_template_hash=template_hash(sight.workload),
        live_uid=sight.uid,
    )


def refuse_paused(sight: Sight) -> None:
    """Refuse a paused Deployment.

    Raises:
        PreconditionFailed: It is paused.
    """
    if is_paused(sight.workload):
        raise PreconditionFailed(
            f"{sight.target} is paused: the API would accept a new template and start nothing.",
            fix="Ask who paused it; kubernetes_pause_rollout with paused=false resumes it.",
            source="kubernetes",
            paused=True,
        )
