"""Accounts of incidents for tests of pages and drafts: every part of the record filled, or none."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast

from mcp_devops.decision.engine import decide
from mcp_devops.decision.policy import Policy
from mcp_devops.incidents.account import Account, Consent, Happening, Judged, Proof, Sort
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.change import ChangeArea, TemplateDifference
from mcp_devops.model.evidence import Arm, DiagnosticContext, PodCause, RolloutClass
from mcp_devops.model.incident import Incident, IncidentStatus, TimelineEntry, Verification
from mcp_devops.model.record import Record
from mcp_devops.model.surroundings import ImageDifference
from tests.support import evidence as given
from tests.support.evidence import CHECKOUT, seconds

ID = "inc-0123abcd"
T = TypeVar("T")


def full_evidence() -> DiagnosticContext:
    """Evidence in which nothing is empty."""
    note = "p99 is clamped at the last bucket edge."
    made = given.context(
        given.baseline(p99_ms=[50.0] * 30).model_copy(
            update={"note": note, "queries": ("sum(rate(x[1m]))",)}
        ),
        given.after(Arm.AFTER, [1, 90, 95, 99, 101], p99_ms=[60, 200, 210, 220, 230]),
        given.after(Arm.NEW, [1, 90, None, 98, 101], 500, p99_ms=[60, 230, None, 260, 270]),
        given.after(Arm.CONTROL, [0, 0, 0, 1, 0], 500, p99_ms=[50, 51, 52, 50, 50]),
        given.series(Arm.AFTER, given.buckets(0, 60, None, [0, 1]), source="datadog"),
        now_s=300,
        judged=given.change(ChangeArea.IMAGE, ChangeArea.PROBES),
        rollout=given.rollout(
            RolloutClass.STALLED_ROLLOUT,
            given.pods(2, 1, total=4, restarts=3, cause=PodCause.CRASH_LOOP, exit_codes=(1, 137),
                       log_line="panic: nil map"),
            given.pods(2, number=41),
            deadline_exceeded=True,
        ),
        neighbours=(given.neighbour("cart", sick=True), given.neighbour("search", sick=False)),
        scaling=(given.scaling(30),),
        missing=(given.missing("sentry", needed=False), given.missing("datadog", needed=True)),
        drift=(given.drifted().model_copy(update={"where": "main.tf:12", "names_service": True}),),
        outbound=(given.calls(0.3, old=0.01, new=0.5),),
        image_risk=given.risky(),
        issues=given.issues().model_copy(update={"worst": ("SHOP-1 in pay()",)}),
    )  # fmt: skip
    assert made.change is not None and made.rollout is not None
    removed = TemplateDifference(
        area=ChangeArea.PROBES, path="containers[checkout].readinessProbe", before="a", after=None
    )
    change = made.change.model_copy(
        update={
            "managed_by": "Argo CD application shop",
            "differences": (*made.change.differences, removed),
            "revision": made.change.revision.model_copy(
                update={"images": ("shop/checkout:2",), "change_cause": "release 2"}
            ),
        }
    )
    image = ImageDifference(image="shop/checkout:2", previous="shop/checkout:1", summary="2 layers")
    rollout = made.rollout.model_copy(update={"summary": "The rollout is stalled."})
    return made.model_copy(
        update={"change": change, "image_difference": image, "rollout": rollout, "took_s": 0.5}
    )


def full_account(**changes: Any) -> Account:
    """An account in which nothing is empty; `changes` go into the incident."""
    found = full_evidence()
    verdict = decide(found, Policy(), seconds(302))
    plan = ActionPlan(
        tool="incident_roll_back", target=CHECKOUT, uid="uid-1", from_revision=42, to_revision=41,
        incident_id=ID, summary="Return checkout to 41.", reason="errors",
        warnings=("ConfigMaps stay.",),
    )  # fmt: skip
    checked = Verification(
        outcome="recovered", checked_at=seconds(500), took_s=120.0, template_restored=True,
        pods="All 4 pods are ready.", error_rate_before=0.2, error_rate_after=0.001,
        says="Recovered: checkout after 2 min.",
    )  # fmt: skip
    incident = Incident(
        id=ID, target=CHECKOUT.model_copy(update={"cluster": "prod"}),
        status=IncidentStatus.RECOVERED, opened_at=seconds(295), updated_at=seconds(500),
        opened_by="ann (stdio)", revision=42, verdict=verdict, verification=checked,
        timeline=(TimelineEntry(at=seconds(295), what="opened", who="ann (stdio)"),),
    ).model_copy(update=changes)  # fmt: skip
    consent = Consent(
        id="apr-1", asked_by="ann (stdio)", asked_at=seconds(310), summary="Return checkout to 41.",
        plan_digest=plan.digest, status="approved", answered_by="bob", answered_at=seconds(330),
        channel="terminal", note="go",
    )  # fmt: skip
    told = (
        (0, "revision 42 began to roll out", Sort.DEPLOYMENT),
        (60, "first sign, found later: errors", Sort.SIGN),
        (295, "opened", Sort.INCIDENT),
        (302, "verdict roll_back", Sort.VERDICT),
        (330, "approval apr-1 approved", Sort.APPROVAL),
        (500, "Recovered", Sort.INCIDENT),
    )
    return Account(
        incident=incident,
        evidence=found,
        plan=plan,
        consents=(consent,),
        happenings=tuple(
            Happening(at=seconds(at), what=what, who="ann", sort=sort) for at, what, sort in told
        ),
        rolled_back_at=seconds(380),
        proof=Proof(entries=9, all_of_them=True, changed=(), head=f"12:{'ab' * 32}"),
        judged=Judged(was_right=False, by_whom="cleo", at=seconds(800), note="the database"),
    )


def bare_account(**changes: Any) -> Account:
    """An incident that was just opened: no evidence, no verdict, nothing done."""
    incident = Incident(
        id=ID, target=CHECKOUT, status=IncidentStatus.INVESTIGATING, opened_at=seconds(0),
        updated_at=seconds(0), opened_by="ann",
    ).model_copy(update=changes)  # fmt: skip
    return Account(
        incident=incident, evidence=None, plan=None, consents=(), happenings=(),
        rolled_back_at=None,
        proof=Proof(entries=1, all_of_them=True, changed=(), head=None),
    )  # fmt: skip


def poisoned(value: T, text: str) -> T:
    """The same data with every text in it replaced."""
    return cast(T, _poisoned(value, text))


def _poisoned(value: Any, text: str) -> Any:
    if isinstance(value, str) and not isinstance(value, Enum):
        return text
    if isinstance(value, Record):
        fields = type(value).model_fields
        return value.model_copy(update={n: _poisoned(getattr(value, n), text) for n in fields})
    if isinstance(value, tuple):
        return tuple(_poisoned(item, text) for item in value)
    if isinstance(value, Mapping):
        return {text: next(iter(value.values()))} if value else {}
    return value
