"""What a run does at each step. Every step may be repeated after a crash without doing it twice."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime
from typing import Any

from mcp_devops.errors import PreconditionFailed
from mcp_devops.gateway.approvals import Approval, ApprovalDesk, ApprovalStatus
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.reply import Reply
from mcp_devops.incidents.outcomes import record_of_all, target_key
from mcp_devops.incidents.roll_back import UNATTENDED
from mcp_devops.incidents.sentry_record import write_down
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.responder.bookmarks import restoring_in
from mcp_devops.responder.history import claim_act, past_acts, release_act
from mcp_devops.responder.response import Kind, Response, decide_response, has_passed
from mcp_devops.responder.runs.turns import Turns
from mcp_devops.responder.switches import breaker_of, frozen_by
from mcp_devops.responder.telling.people import People
from mcp_devops.responder.watching.rollouts import Rollout, RolloutWatch
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.limits import Stopped
from mcp_devops.response_policy.policy import Observe
from mcp_devops.toolkit.context import Caller

log = logging.getLogger(__name__)

CALLER = Caller("responder", UNATTENDED)
LOOKS_AT_ONCE = 8
"""Investigations under way at once: more would only make each other late."""
WAIT_FOR_ANSWER_S = 20.0
"""Seconds one step waits for a person; the next step goes on."""
JUDGED_ANEW = "judged_anew"
UNTROUBLED = frozenset({"not_enough_data", "new_vulnerability"})
"""Vetoes that say nothing is known to be wrong."""


class Look(Record):
    """One look at a rollout, judged."""

    at: Moment
    """When."""
    incident_id: str | None = None
    """The incident; null: nothing could be collected."""
    over: str | None = None
    """Why the run is over without a response; null: it is not."""
    action: Action = Action.HOLD
    """What the verdict says."""
    troubled: bool = False
    """Whether something is wrong, whoever did it."""
    passed: bool = False
    """Whether something was wrong and is over by itself."""
    rolling: bool = False
    """Whether pods of the old revision still serve: most users may be on it."""
    headline: str = ""
    """The verdict in a sentence, or what went wrong."""
    response: Response | None = None
    """What the policy makes of it; null: there is no verdict."""
    observe: Observe | None = None
    """How long and how often the policy wants it looked at, as of this look; null: recorded
    before that was kept."""


class Acted(Record):
    """What became of an action."""

    status: str
    """recovered, not_recovered, unknown, refused, stopped by a limit or a freeze, or judged_anew:
    what was approved is no longer the plan, and a person has to be asked about the new one."""
    says: str
    """One sentence."""
    response: Response | None = None
    """What the policy says now, where that stopped it; null: it says what it said."""

    @property
    def recovered(self) -> bool:
        """Whether the rollback is verified."""
        return self.status == IncidentStatus.RECOVERED.value


class Asked(Record):
    """A question to people."""

    approval_id: str | None = None
    """The approval that waits; null: nothing can be approved, people were only told."""
    until: Moment | None = None
    """When no answer becomes a no."""
    says: str = ""
    """Why nothing can be approved."""


class Steps:
    """The steps of all runs of one process."""

    def __init__(
        self, gateway: Gateway, policy: PolicyFile, people: People, watch: RolloutWatch
    ) -> None:
        self._gateway = gateway
        self._policy = policy
        self._people = people
        self._watch = watch
        self._clock = gateway.clock
        self._turns = Turns(LOOKS_AT_ONCE)

    def now(self) -> datetime:
        """The moment."""
        return self._clock.now()

    async def begin(self, rollout: Rollout, replica: str) -> float:
        """Write the run down. Returns the epoch second at which it began, also when repeated."""
        began = await self._written_down(rollout, replica)
        log.info("%s: a new rollout, watching it", rollout.target)
        await self._people.change(rollout.target, f"{rollout.target} was rolled out")
        return began.timestamp()

    async def look(self, rollout: Rollout) -> Look:
        """Collect, judge, and say what the policy makes of it."""
        async with self._turns.turn(lambda: self._watch.in_trouble(rollout.target)):
            seen = await self._look(rollout)
        self._watch.found(rollout.target, troubled=seen.troubled)
        observe = self._policy.current.explain(rollout.target).rules.observe
        return seen.model_copy(update={"observe": observe})

    async def _look(self, rollout: Rollout) -> Look:
        target = rollout.target
        rules = self._policy.current.explain(target).rules
        asked = {
            "namespace": target.namespace,
            "workload": target.name,
            "kind": target.kind.value,
            "context": target.cluster or None,
            "baseline_minutes": rules.observe.baseline_minutes,
            "buffer_minutes": rules.observe.buffer_minutes,
        }
        found = await self._call("incident_investigate", asked)
        now = self._clock.now()
        if found.data is None:
            gone = (found.error or {}).get("code") == "NOT_FOUND"
            return Look(at=now, over="it was deleted" if gone else None, headline=found.text[:500])
        incident_id = str(found.data["incident_id"])
        store = await self._get(IncidentStore)
        stored = await store.get(incident_id)
        change = stored.context.change if stored.context else None
        health = stored.context.rollout if stored.context else None
        if change is not None and (change.uid, change.revision.template_hash) != (
            rollout.uid,
            rollout.template_hash,
        ):
            # Also where it was made anew under the same name: that one has a run of its own.
            return Look(at=now, over="another rollout replaced it", incident_id=incident_id)
        decided = await self._call("incident_decide", {"incident_id": incident_id})
        verdict = (await store.get(incident_id)).incident.verdict
        if decided.data is None or verdict is None:
            return Look(at=now, incident_id=incident_id, headline=decided.text[:500])
        return Look(
            at=now,
            incident_id=incident_id,
            action=verdict.action,
            troubled=is_troubled(verdict),
            passed=has_passed(verdict),
            rolling=health is not None and health.old is not None,
            headline=verdict.headline,
            response=await self._response(rollout, verdict),
        )

    async def _response(self, rollout: Rollout, verdict: Verdict) -> Response:
        database = await self._get(Database)
        now = self._clock.now()
        frozen, history, breaker, record = await asyncio.gather(
            frozen_by(database, rollout.target, now),
            past_acts(database, now),
            breaker_of(database),
            record_of_all(database),
        )
        return decide_response(
            verdict,
            rollout.target,
            self._policy.current,
            now,
            frozen,
            history,
            breaker=breaker,
            record=record,
        )

    async def rest(self, rollout: Rollout, seconds: float) -> bool:
        """Wait for the next look, or until a pod fails."""
        return await self._watch.wake(rollout.target, seconds)

    async def act(self, rollout: Rollout, incident_id: str, response: Response) -> Acted:
        """Roll back by the policy's approval, if policy, limits and freezes still allow it."""
        database, journal = await self._get(Database), await self._get(Journal)
        now = self._clock.now()
        lowered = await self._lowered(rollout, incident_id)
        if lowered is not None:
            says = f"The policy does not let the server act any more: {' '.join(lowered.reasons)}"
            return Acted(status="stopped", says=says, response=lowered)
        claim = await claim_act(
            database,
            journal,
            now=now,
            target=rollout.target,
            incident_id=incident_id,
            limits=self._policy.current.limits,
        )
        if isinstance(claim, Stopped):
            return Acted(status="stopped", says=f"A limit stops it: {claim.reason}.")
        frozen = await frozen_by(database, rollout.target, now)
        if frozen is not None:
            acted = Acted(status="stopped", says=f"It is {frozen.says()}.")
        else:
            acted = await self._roll_back(rollout, incident_id, None, response)
        if acted.status in ("stopped", "refused"):
            await release_act(
                database,
                journal,
                now=self._clock.now(),
                target=rollout.target,
                incident_id=incident_id,
                why=acted.says,
            )
        return acted

    async def _lowered(self, rollout: Rollout, incident_id: str) -> Response | None:
        """What the policy says now, if that is less than to act; null: it lets the server act.

        A run that goes on after a crash may hold an answer from before the policy was changed, or
        before quiet hours began. Limits and freezes are not looked at: the claim does that.
        """
        if await self._spent(incident_id) is not None:
            return None  # it was begun: now it is only to be followed
        verdict = (await (await self._get(IncidentStore)).get(incident_id)).incident.verdict
        if verdict is None:
            return None
        now_says = decide_response(
            verdict,
            rollout.target,
            self._policy.current,
            self._clock.now(),
            None,
            (),
            record=await record_of_all(await self._get(Database)),
        )
        return None if now_says.kind is Kind.ACT else now_says

    async def ask(self, rollout: Rollout, incident_id: str, response: Response, why: str) -> Asked:
        """Page, and ask for a decision about exactly the plan that would be carried out.

        Repeated after a crash it may meet the answer: the same call then carries out what was
        approved meanwhile, and the question counts as answered.
        """
        reply = await self._call("incident_roll_back", await self._arguments(incident_id))
        approval = await self._waiting(reply)
        if reply.data is not None and (spent := await self._spent(incident_id)) is not None:
            return Asked(approval_id=spent.id, until=spent.expires_at)
        if approval is None:
            says = (reply.error or {}).get("what", reply.text)[:500]
            await self._people.page(incident_id, response, why, f"Nothing can be approved: {says}")
            return Asked(says=says)
        # Before it is answered: the yes may be carried out by another process than this one. If the
        # answer is no, a later return to that template by hand is no new deployment either.
        await self._restores(rollout, approval)
        await self._people.ask(approval, response, incident_id, why)
        return Asked(approval_id=approval.id, until=approval.expires_at)

    async def tell(self, incident_id: str, response: Response, why: str) -> None:
        """Page without a question."""
        await self._people.page(incident_id, response, why, "Look at it: incident_investigate.")

    async def answer(self, approval_id: str) -> str:
        """Wait a while for a person's answer. Returns the approval's status."""
        desk = await self._get(ApprovalDesk)
        deadline = self._clock.monotonic() + WAIT_FOR_ANSWER_S
        while True:
            approval = await desk.get(approval_id)
            waiting = approval.status is ApprovalStatus.PENDING
            if not waiting or self._clock.monotonic() >= deadline:
                break
            await asyncio.sleep(1)
        if not waiting:
            await self._people.settled(approval)
        return str(approval.status.value)

    async def approved(self, rollout: Rollout, incident_id: str, approval_id: str) -> Acted:
        """Carry out what a person approved."""
        desk = await self._get(ApprovalDesk)
        await self._restores(rollout, await desk.get(approval_id))
        arguments = await self._arguments(incident_id)
        return await self._roll_back(rollout, incident_id, arguments, None)

    async def finish(
        self,
        rollout: Rollout,
        status: str,
        incident_id: str | None,
        response: Response | None,
        times: dict[str, Any],
    ) -> None:
        """Close the run: timeline, page, record in Sentry, row."""
        recovered = status == IncidentStatus.RECOVERED.value
        if incident_id is not None and response is not None and response.kind is not Kind.RECORD:
            await self._people.close(incident_id, response, recovered)
            who, services = CALLER.identity, self._gateway.services
            for lost in await write_down(services, self._clock, incident_id, who):
                log.warning("%s: not recorded: %s", incident_id, lost)
        now = self._clock.now()
        database = await self._get(Database)
        await database.run(
            lambda c: (
                c.execute(
                    "UPDATE runs SET status = ?, incident_id = ?, updated_at = ?, body = ?"
                    " WHERE id = ?",
                    (status, incident_id, now.isoformat(), json.dumps(times), rollout.run_id),
                ).rowcount
            )
        )
        log.info("%s: %s", rollout.target, status)

    async def broken(self, rollout: Rollout, failure: str) -> None:
        """Page about a run that failed itself: from here on a person has to watch the rollout.

        Raises:
            DevOpsError: The state cannot be written either.
        """
        store = await self._get(IncidentStore)
        target = rollout.target
        stored = await store.find_open(target) or await store.open(target, str(CALLER))
        why = f"The watch over {target} broke ({failure}): nobody watches its rollout now."
        found = self._policy.current.explain(target)
        response = Response(
            kind=Kind.PAGE,
            reasons=(why,),
            policy_version=self._policy.current.version,
            scope=found.scope,
            scope_line=found.line,
            wakes=found.rules.page.pagerduty,
            page=found.rules.page,
            resolve=found.rules.resolve,
        )
        await self._people.page(
            stored.incident.id, response, why, "Look at the rollout, and at the server's log."
        )
        times = {"ended_at": self._clock.now().isoformat()}
        # It may have broken before it had a row.
        await self._written_down(rollout, None)
        await self.finish(rollout, "broken", stored.incident.id, None, times)

    async def _written_down(self, rollout: Rollout, replica: str | None) -> datetime:
        """Make the run's row, unless it is there. Returns when the run began."""
        now = self._clock.now()
        database = await self._get(Database)

        def write(connection: Connection) -> str:
            connection.execute(
                "INSERT INTO runs (id, target, template_hash, incident_id, status, replica,"
                " started_at, updated_at, body) VALUES (?, ?, ?, NULL, 'observing', ?, ?, ?, '{}')"
                " ON CONFLICT (id) DO NOTHING",
                (
                    rollout.run_id, target_key(rollout.target), rollout.template_hash, replica,
                    now.isoformat(), now.isoformat(),
                ),
            )  # fmt: skip
            row = connection.execute(
                "SELECT started_at FROM runs WHERE id = ?", (rollout.run_id,)
            ).fetchone()
            return str(row["started_at"])

        return datetime.fromisoformat(str(await database.run(write)))

    async def _roll_back(
        self,
        rollout: Rollout,
        incident_id: str,
        arguments: dict[str, Any] | None,
        response: Response | None,
    ) -> Acted:
        """Send the call; with a response, answer the approval in the policy's name."""
        arguments = arguments or {"incident_id": incident_id}
        reply = await self._call("incident_roll_back", arguments)
        approval = await self._waiting(reply)
        if approval is not None and response is not None:
            await self._restores(rollout, approval)
            desk = await self._get(ApprovalDesk)
            try:
                await desk.answer(
                    approval.id,
                    ApprovalStatus.APPROVED,
                    who=f"policy {response.policy_version}",
                    channel="policy",
                    note=" ".join(response.reasons)[:1000],
                )
            except PreconditionFailed as answered:
                # A person was asked about this very plan as well: the first answer counts.
                log.info("%s: %s", rollout.target, answered.what)
            reply = await self._call("incident_roll_back", arguments)
        if reply.data is not None:
            return Acted(status=str(reply.data["status"]), says=str(reply.data["headline"]))
        code = (reply.error or {}).get("code", "")
        if code == "APPROVAL_REQUIRED" and response is None:
            says = "The deployment was judged anew since it was approved; this is the new plan."
            return Acted(status=JUDGED_ANEW, says=says)
        status = "unknown" if code == "OUTCOME_UNKNOWN" else "refused"
        return Acted(status=status, says=reply.text[:500])

    async def _restores(self, rollout: Rollout, approval: Approval) -> None:
        """Remember that the template that comes back is our own doing, not a new deployment."""
        restored = approval.plan.to_template_hash
        if restored is not None:
            now = self._clock.now()
            database = await self._get(Database)
            await database.run(lambda c: restoring_in(c, rollout.uid, restored, now))

    async def _arguments(self, incident_id: str) -> dict[str, Any]:
        """What a person is asked to approve: the verdict's rollback, or one despite it."""
        stored = await (await self._get(IncidentStore)).get(incident_id)
        verdict = stored.incident.verdict
        said = verdict.action.value if verdict is not None else "missing"
        # With a reason of its own it is never approved by a policy, whatever the verdict allows.
        reason = f"the verdict by itself is {said.replace('_', ' ')}."
        return {"incident_id": incident_id, "despite_verdict": reason}

    async def _waiting(self, reply: Reply) -> Approval | None:
        """The approval that a refused call waits for."""
        error = reply.error or {}
        if error.get("code") != "APPROVAL_REQUIRED":
            return None
        desk: ApprovalDesk = await self._get(ApprovalDesk)
        return await desk.get(str(error["details"]["approval_id"]))

    async def _spent(self, incident_id: str) -> Approval | None:
        """The approval under which an incident's action was started."""
        desk: ApprovalDesk = await self._get(ApprovalDesk)
        asked = await desk.about(incident_id)
        return next((a for a in reversed(asked) if a.status is ApprovalStatus.USED), None)

    async def _call(self, name: str, arguments: dict[str, Any]) -> Reply:
        given = {k: v for k, v in arguments.items() if v is not None}
        return await self._gateway.call(name, given, CALLER)

    async def _get(self, kind: type[Any]) -> Any:
        return await self._gateway.services.get(kind)


def is_troubled(verdict: Verdict) -> bool:
    """Whether a verdict says that something is wrong now, whoever did it."""
    if verdict.action in (Action.ROLL_BACK, Action.FIX_FORWARD):
        return True
    if verdict.action is Action.NONE or has_passed(verdict):
        return False
    blamed = any(f.counted and f.weight > 0 for f in verdict.findings)
    return blamed or bool({v.code for v in verdict.vetoes} - UNTROUBLED)
