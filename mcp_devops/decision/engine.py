"""`decide`: facts, rules, weights, cause, vetoes, action, words. Same in, same out."""

from __future__ import annotations

from datetime import datetime

from mcp_devops.decision import words
from mcp_devops.decision.action import choose
from mcp_devops.decision.causes import causes, is_quiet, name
from mcp_devops.decision.facts import Facts, canonical
from mcp_devops.decision.policy import ChangeHistory, Policy
from mcp_devops.decision.rules import RULES
from mcp_devops.decision.vetoes import vetoes
from mcp_devops.decision.vocabulary import DEPLOYMENT_INDUCED_REGRESSION, REGRESSION
from mcp_devops.decision.weighing import weigh
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.record import digest
from mcp_devops.model.verdict import Action, Verdict


def decide(
    context: DiagnosticContext,
    policy: Policy,
    now: datetime,
    *,
    prior: ChangeHistory | None = None,
) -> Verdict:
    """Judge one diagnostic context.

    Args:
        context: What was collected, and what could not be.
        policy: All numbers.
        now: The time of judging; buckets that end later are not whole yet and left out.
        prior: The service's past deployments and verdicts; null: a failure rate of .1.

    Returns:
        The verdict. Its id is the digest of the context (without log lines, order and the
        collection's duration), the history and the policy: not of `now`.
    """
    history = prior or ChangeHistory()
    facts = Facts(context, policy, now)
    weighed = weigh(
        (finding for rule in RULES for finding in rule(facts, policy)), history.failure_rate, policy
    )
    ranked = causes(facts, policy)
    cause = name(ranked, policy)
    stops = vetoes(facts, weighed, policy, history)
    action = choose(weighed.probability, cause, stops, policy, quiet=is_quiet(facts))
    complete = not any(m.needed for m in context.missing)
    named = any(f.rule == REGRESSION for f in weighed.findings)
    return Verdict(
        id=digest(
            {
                "context": canonical(context),
                "history": history,
                "policy": policy.model_dump(mode="json"),
            }
        ),
        target=context.target,
        decided_at=now,
        revision=context.change.revision.number if context.change is not None else None,
        action=action,
        cause=cause,
        confidence=weighed.probability,
        calibrated=history.judged >= policy.limits.calibrated_outcomes,
        headline=words.headline(action, weighed, facts, stops, cause),
        finding_name=DEPLOYMENT_INDUCED_REGRESSION if named else None,
        prior=weighed.prior,
        findings=weighed.findings,
        vetoes=tuple(s.veto for s in stops),
        causes=ranked,
        runner_up=words.runner_up(ranked),
        ask_next=words.ask_next(facts, stops, policy),
        would_change=words.would_change(action, weighed, facts, stops, policy),
        evidence_complete=complete,
        passed=facts.passed,
        automatic=(
            action is Action.ROLL_BACK
            and weighed.probability >= policy.limits.automatic_confidence
            and complete
            and not stops
        ),
        policy_version=policy.version,
    )
