"""Puts the unattended server together: watch, runs, people, policy; and takes it down in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mcp_devops.errors import DevOpsError, UpstreamTimeout
from mcp_devops.gateway.approvals import Approval, ApprovalDesk
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.opening import DRAIN_S
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.polling import watch as watch_answers
from mcp_devops.integrations.slack.records import MessageRef
from mcp_devops.integrations.slack.settings import AnswerPath
from mcp_devops.integrations.slack.socket_mode import SocketModeClient
from mcp_devops.journal.database import Database, default_state_dir
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.responder.housekeeping import Housekeeping
from mcp_devops.responder.runs.durable import Runs, replica_name, runs_url
from mcp_devops.responder.runs.steps import Steps
from mcp_devops.responder.settings import HousekeepingSettings
from mcp_devops.responder.telling.channels import Front
from mcp_devops.responder.telling.lookout import Lookout
from mcp_devops.responder.telling.people import People
from mcp_devops.responder.watching.rollouts import Rollout, RolloutWatch, Scope
from mcp_devops.responder.watching.sentry_deploys import following_deploys
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.policy import Observe
from mcp_devops.response_policy.settings import ResponseSettings

log = logging.getLogger(__name__)
LISTED_S = 60.0
"""Seconds until every kind of workload must have been listed once."""
POLL_QUESTIONS_S = 3.0
"""Seconds between two looks for new questions, where Slack's answers are polled for."""
POLL_AGAIN_S = 30.0
"""Seconds after which answers are looked for again where it failed: a scope may be granted."""


@dataclass(frozen=True)
class Responder:
    """The running parts of an unattended server, for those who hand something over to it."""

    runs: Runs
    watch: RolloutWatch
    people: People
    cluster: Cluster
    scope: Scope

    async def deployed(self, namespace: str, workload: str, kind: WorkloadKind) -> str:
        """Start the run of a workload's live template, if it is watched and has none yet.

        Raises:
            NotFound: There is no such workload.
            DevOpsError: It cannot be read.
        """
        if not self.scope.holds(namespace) or kind not in self.scope.kinds:
            return "not watched"
        path = path_of(kind.resource, "apps", namespace=namespace, name=workload)
        found = await self.cluster.get(path)
        target = Workload(
            cluster=self.cluster.context, namespace=namespace, kind=kind, name=workload
        )
        rollout = await self.watch.live(target, found)
        if rollout is None:
            return "rolled back by us, or paused"
        await self.runs.start(rollout)
        return "watched"

    async def alerted(self, services: tuple[str, ...], status: str) -> str:
        """Bring the next look at these services forward: somebody else saw something."""
        woken = sum(self.watch.rouse(service) for service in services)
        return f"{woken} runs look now" if woken else "no run is under way"


@asynccontextmanager
async def watching(
    gateway: Gateway,
    namespaces: tuple[str, ...],
    kinds: tuple[WorkloadKind, ...] = tuple(WorkloadKind),
    context: str | None = None,
    front: Front | None = None,
) -> AsyncIterator[Responder]:
    """Watch and answer rollouts for as long as the block runs.

    Args:
        gateway: The open door.
        namespaces: Patterns of namespaces.
        kinds: Kinds of workloads.
        context: Kubeconfig context; None: the current one.
        front: What the program around offers to people.

    Raises:
        NotConfigured: DBOS is not installed.
        PermissionDenied: Workloads may not be watched.
        PreconditionFailed: Another process of this name is alive; or, out of the block, which is
            cancelled: others took this process for dead and go on with its runs.
        UpstreamTimeout: The cluster does not answer.
        UpstreamUnavailable: Out of the block: the state cannot be written for longer than others
            wait.
    """
    services, clock = gateway.services, gateway.clock
    settings, kept = ResponseSettings.load(), HousekeepingSettings.load()
    policy = await services.get(PolicyFile)
    database = await services.get(Database)
    desk = await services.get(ApprovalDesk)
    store = await services.get(IncidentStore)
    public_url = settings.public_url
    people = People(services, database, store, desk, clock, front, public_url)
    cluster = await (await services.get(KubernetesClient)).cluster(context)
    started: list[Runs] = []

    async def on_rollout(rollout: Rollout) -> None:
        await started[0].start(rollout)

    scope = Scope(namespaces, kinds)
    watch = RolloutWatch(cluster, database, clock, scope, on_rollout)
    steps = Steps(gateway, policy, people, watch)
    shared = gateway.settings.database_url
    url = shared.get_secret_value() if shared is not None else runs_url(_state_dir(gateway))
    name = replica_name(settings.replica, shared is not None)
    lock = None if shared is not None else _state_dir(gateway) / "watch.lock"
    runs = Runs(
        steps,
        database,
        clock,
        url,
        name,
        lock,
        attending=lambda r: watch.attending(r.target),
        owner=gateway.ledger.owner,
        settle=partial(gateway.drain, DRAIN_S),
    )
    started.append(runs)

    def observing(rollout: Rollout) -> Observe:
        return policy.current.explain(rollout.target).rules.observe

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(people.running())
        await stack.enter_async_context(Lookout(people, policy, database).running())
        await stack.enter_async_context(runs.running(observing))
        slack = await services.find(SlackClient)
        if slack is not None:
            await stack.enter_async_context(_answers(slack, people, desk))
        sentry = await services.find(SentryClient)
        if sentry is not None:
            following = following_deploys(sentry, database, clock, watch.rouse)
            await stack.enter_async_context(following)
        await stack.enter_async_context(watch.running())
        try:
            async with asyncio.timeout(LISTED_S):
                await watch.listed.wait()
        except TimeoutError:
            raise UpstreamTimeout(
                f"The workloads could not all be listed within {LISTED_S:g} s.",
                fix="Look with `mcp-devops doctor` whether the cluster can be reached.",
                source="kubernetes",
            ) from None
        await stack.enter_async_context(Housekeeping(database, clock, kept, runs, watch).running())
        yield Responder(runs, watch, people, cluster, scope)


def _state_dir(gateway: Gateway) -> Path:
    return gateway.settings.state_dir or default_state_dir()


@asynccontextmanager
async def _answers(slack: SlackClient, people: People, desk: ApprovalDesk) -> AsyncIterator[None]:
    """Take answers from Slack: over its socket, or by looking under the questions."""
    if people.teller.polls(slack):
        task = asyncio.create_task(_kept(partial(_polled, slack, people, desk)))
    elif slack.settings.answers is AnswerPath.SOCKET:
        task = asyncio.create_task(_kept(partial(_heard, slack, people, desk)))
    else:
        yield
        return
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _kept(listen: Callable[[], Awaitable[None]]) -> None:
    """Listen for good: one answer that trips it up must not make it deaf for the others."""
    while True:
        try:
            await listen()
        except Exception:  # the boundary: people answer here, and nobody would see it end
            log.exception("Slack's answers could not be taken; listening begins anew")
        await asyncio.sleep(POLL_AGAIN_S)


async def _heard(slack: SlackClient, people: People, desk: ApprovalDesk) -> None:
    """Listen on Slack's socket; where that cannot be, look under the questions instead."""
    try:
        await SocketModeClient(slack, people.answered).run()
    except DevOpsError as final:
        log.warning("Slack's socket cannot be used, so answers are polled for: %s", final)
    people.teller.polling = True
    await _polled(slack, people, desk)


async def _polled(slack: SlackClient, people: People, desk: ApprovalDesk) -> None:
    """Look under each question that waits, until it is settled."""
    looking: dict[str, asyncio.Task[None]] = {}

    async def follow(approval: Approval, question: MessageRef) -> None:
        end = approval.expires_at
        try:
            async for spoken in watch_answers(slack, question, approval.id, until=end):
                await people.spoken(spoken, question)
        except DevOpsError as problem:
            log.warning("answers to %s cannot be looked for: %s", approval.id, problem)
            await asyncio.sleep(POLL_AGAIN_S)

    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                waiting = {approval.id: approval for approval in await desk.waiting()}
                refs = {name: await people.question_in_slack(name) for name in waiting}
            except DevOpsError as problem:
                log.warning("questions that wait cannot be read: %s", problem)
            else:
                for name in [n for n, task in looking.items() if n not in waiting or task.done()]:
                    looking.pop(name).cancel()
                for name, question in refs.items():
                    if question is not None and name not in looking:
                        looking[name] = tasks.create_task(follow(waiting[name], question))
            await asyncio.sleep(POLL_QUESTIONS_S)
