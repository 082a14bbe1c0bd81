"""The door itself: every call passes here, from whichever side it comes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from mcp_devops.catalog import Catalog
from mcp_devops.errors import (
    DevOpsError,
    InternalError,
    InvalidArguments,
    OutcomeUnknown,
    UpstreamError,
    UpstreamTimeout,
)
from mcp_devops.gateway.approvals import Approval
from mcp_devops.gateway.asking import AnswerLater, Ask
from mcp_devops.gateway.consent import Consent
from mcp_devops.gateway.ledger import Ledger
from mcp_devops.gateway.permission import preflight, require_writes
from mcp_devops.gateway.reply import Reply, reply_from_answer, reply_from_error
from mcp_devops.gateway.services import Registry
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Record
from mcp_devops.settings import ServerSettings
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Caller, Progress, ToolContext, no_progress
from mcp_devops.toolkit.integration import Scope
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import AnyTool

log = logging.getLogger(__name__)

TELL_S = 1.0
"""Seconds that a stop leaves a change's call at the least to be written down, once it is over."""


@dataclass(frozen=True)
class CallRecord:
    """One finished call, for metrics."""

    tool: str
    outcome: str
    """ok, or the error's code."""
    seconds: float


@dataclass
class Gateway:
    """Validates, permits, gets consent, records, runs, redacts, records."""

    catalog: Catalog
    services: Registry
    settings: ServerSettings
    journal: Journal
    consent: Consent
    ledger: Ledger
    redactor: Redactor
    clock: Clock
    observers: list[Callable[[CallRecord], None]] = field(default_factory=list)
    _changes: set[asyncio.Task[Answer]] = field(default_factory=set)
    _untold: dict[str, asyncio.Event] = field(default_factory=dict)
    """By call: set once the call that began a change is written down as finished."""

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        caller: Caller,
        *,
        ask: Ask | None = None,
        progress: Progress = no_progress,
    ) -> Reply:
        """Run one tool call through the door.

        Anticipated failures come back as a failed Reply. An exception that nobody anticipated
        comes back as INTERNAL with the call's id; its text goes to the log only.

        Raises:
            NotFound: There is no such tool: a protocol error, not a tool's.
            AnswerLater: The client must bring a person's answer with its next call.
        """
        spec = self.catalog.find(name)
        call_id = f"call-{secrets.token_hex(6)}"
        begun = self.clock.monotonic()
        outcome = "ok"
        try:
            reply = await self._guarded(spec, arguments, caller, call_id, ask, progress)
            outcome = reply.error["code"] if reply.error else "ok"
        except AnswerLater:
            outcome = "asked"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            if told := self._untold.pop(call_id, None):
                told.set()
            seconds = self.clock.monotonic() - begun
            for observe in self.observers:
                observe(CallRecord(spec.name, outcome, seconds))
        return reply

    async def _guarded(
        self,
        spec: AnyTool,
        arguments: Mapping[str, Any],
        caller: Caller,
        call_id: str,
        ask: Ask | None,
        progress: Progress,
    ) -> Reply:
        await self._record(
            EntryKind.CALL_STARTED, spec, caller, call_id, {"arguments": dict(arguments)}
        )
        try:
            args = validate(spec, arguments)
            answer = await self._run(spec, args, caller, call_id, ask, progress)
        except AnswerLater:
            await self._finished(spec, caller, call_id, "asked")
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._finished(spec, caller, call_id, "cancelled"))
            raise
        except DevOpsError as error:
            reply = reply_from_error(call_id, error, self.redactor)
            await self._finished(spec, caller, call_id, error.code, error=reply.error)
            return reply
        except Exception:  # the boundary: a bug becomes an opaque answer and a log entry
            log.exception("%s crashed in %s", spec.name, call_id)
            fault = InternalError(
                f"{spec.name} failed by a fault of the server (id {call_id}).",
                fix="The server's log has the details under that id.",
            )
            await self._finished(spec, caller, call_id, fault.code)
            return reply_from_error(call_id, fault, self.redactor)
        wanted = getattr(args, "response_format", ResponseFormat.CONCISE)
        reply = reply_from_answer(call_id, answer, self.redactor, wanted)
        await self._finished(
            spec, caller, call_id, "ok", headline=answer.headline, cut=list(reply.cut)
        )
        return reply

    async def _run(
        self,
        spec: AnyTool,
        args: Record,
        caller: Caller,
        call_id: str,
        ask: Ask | None,
        progress: Progress,
    ) -> Answer:
        require_writes(spec, self.settings)
        context: ToolContext[Any] = ToolContext(
            client=await self.services.get(self.catalog.owner(spec).integration.client),
            services=self.services,
            clock=self.clock,
            caller=caller,
            call_id=call_id,
            progress=progress,
        )
        needs = spec.needs_for(args) if spec.needs_for else spec.needs
        if spec.risk is Risk.READ:
            deadline = spec.deadline_s or self.settings.read_deadline_s
            async with _deadline(spec, deadline):
                try:
                    await preflight(self.catalog, self.services, args, needs, spec.name)
                except UpstreamError:
                    if not spec.tells_gaps:
                        raise
                answer: Answer = await spec.run(args, context)
                return answer
        assert spec.plan is not None  # noqa: S101 - ToolSpec refuses a change without one
        async with _deadline(spec, self.settings.read_deadline_s):
            plan: ActionPlan = await spec.plan(args, context)
            require_writes(spec, self.settings, plan.target.namespace)
            if spec.needs_for_plan:
                needs = spec.needs_for_plan(plan)
            scope = Scope(context=plan.target.cluster or None, namespace=plan.target.namespace)
            await preflight(self.catalog, self.services, scope, needs, spec.name)
        return await self._change(spec, args, context, plan, ask)

    async def _change(
        self,
        spec: AnyTool,
        args: Record,
        context: ToolContext[Any],
        plan: ActionPlan,
        ask: Ask | None,
    ) -> Answer:
        done = await self.ledger.find(plan)
        if done is not None:
            again: Answer = spec.output.model_validate(done.outcome)
            return again.model_copy(
                update={"headline": f"Done before, at {done.at}; not done again. {again.headline}"}
            )
        approval = await self.ledger.interrupted(plan)
        if approval is None:
            approval = await self.consent.obtain(plan, context.caller, ask, context.progress)
        context = replace(
            context, approved=plan, approved_by=approval.answered_by or approval.channel or ""
        )
        # The change belongs to the server: a client that hangs up must not leave it half done, nor
        # written down as begun and not done.
        self._untold[context.call_id] = asyncio.Event()
        task = asyncio.create_task(self._carry_out(spec, args, context, plan, approval))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _carry_out(
        self,
        spec: AnyTool,
        args: Record,
        context: ToolContext[Any],
        plan: ActionPlan,
        approval: Approval,
    ) -> Answer:
        await self.ledger.start(plan, approval, str(context.caller), context.call_id)
        status, outcome = "unknown", {}
        try:
            async with asyncio.timeout(spec.deadline_s or self.settings.change_deadline_s):
                answer: Answer = await spec.run(args, context)
            status = "done"
            outcome = self.redactor.data(answer.model_dump(mode="json", exclude_defaults=True))
            return answer
        except TimeoutError as late:
            raise OutcomeUnknown(
                f"{spec.name} did not end within its deadline; the change may have been made.",
                fix="Call kubernetes_get_rollout to see which revision is live.",
            ) from late
        except OutcomeUnknown as unknown:
            outcome = {"error": self.redactor.text(str(unknown))}
            raise
        except DevOpsError as error:
            status, outcome = "failed", {"error": self.redactor.text(str(error))}
            raise
        except asyncio.CancelledError:
            # Only a stop cancels it. It has no outcome yet, and goes on as after a crash.
            status = "interrupted"
            raise
        finally:
            if status != "interrupted":
                await asyncio.shield(
                    self.ledger.finish(plan, status, outcome, str(context.caller), context.call_id)
                )

    async def drain(self, seconds: float) -> None:
        """Wait for changes under way, and until their calls are written down and answered.

        What takes longer is left as a crash would leave it.
        """
        ends = asyncio.get_running_loop().time() + seconds
        late = set(self._changes)
        if late:
            _, late = await asyncio.wait(late, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(max(ends, asyncio.get_running_loop().time() + TELL_S)):
                await asyncio.gather(*(told.wait() for told in self._untold.values()))

    async def _record(
        self, kind: EntryKind, spec: AnyTool, caller: Caller, call_id: str, body: dict[str, Any]
    ) -> None:
        await self.journal.append(
            kind, actor=str(caller), subject=spec.name, call_id=call_id, body=body
        )

    async def _finished(
        self, spec: AnyTool, caller: Caller, call_id: str, outcome: str, **more: Any
    ) -> None:
        body = {"outcome": outcome} | {k: v for k, v in more.items() if v}
        await self._record(EntryKind.CALL_FINISHED, spec, caller, call_id, body)


def validate(spec: AnyTool, arguments: Mapping[str, Any]) -> Record:
    """Check arguments against the tool's model.

    Raises:
        InvalidArguments: With every wrong field, its rule, and the accepted names. Rejected
            values are not repeated: one may be a secret.
    """
    try:
        checked: Record = spec.input.model_validate(dict(arguments))
    except ValidationError as problem:
        wrong = [
            {"field": ".".join(map(str, e["loc"])) or "(all)", "rule": e["msg"]}
            for e in problem.errors(include_input=False, include_url=False)
        ]
        raise InvalidArguments(
            f"{spec.name}: " + "; ".join(f"{w['field']}: {w['rule']}" for w in wrong) + ".",
            fix=f"Accepted arguments: {', '.join(spec.input.model_fields) or 'none'}.",
            wrong=wrong,
        ) from None
    return checked


@asynccontextmanager
async def _deadline(spec: AnyTool, seconds: float) -> AsyncIterator[None]:
    """Turn a passed deadline into our error, without swallowing a caller's cancellation."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise UpstreamTimeout(
            f"{spec.name} did not answer within {seconds:g} s; nothing was changed.",
            fix="Narrow the call (a namespace, a pod, a smaller tail), or look with"
            " `mcp-devops doctor` at which system is slow.",
            limit_s=seconds,
        ) from late
