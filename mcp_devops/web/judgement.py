"""The part of the page with the verdict: weights as bars, vetoes, causes, what would change it."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_devops.model.verdict import CauseProbability, Finding, Verdict
from mcp_devops.text.people import duration, percent
from mcp_devops.web import words
from mcp_devops.web.html import Child, Html, el

SCALE = 4.5
"""Log-odds of a full bar: the heaviest finding the policy knows; heavier ones are full as well."""
MOST = 60
"""Findings that are listed; the engine has about twenty rules."""


def judgement_part(verdict: Verdict | None) -> Child:
    """The verdict whole; a sentence where there is none yet."""
    if verdict is None:
        return el("p", "No verdict yet: the evidence was not judged.")
    counted = [f for f in verdict.findings if f.counted][:MOST]
    rest = [f for f in verdict.findings if not f.counted][:MOST]
    sure = el("strong", percent(verdict.confidence))
    return [
        el("p", el("strong", f"{words.ACTIONS[verdict.action]}. "), verdict.headline),
        el(
            "p",
            "Probability that the deployment did it: ", sure,
            f", from {percent(verdict.prior)} before looking.",
            None if verdict.calibrated else " Not yet calibrated against judged outcomes.",
        ),
        _vetoes(verdict),
        el("h3", "What speaks for and against the deployment"),
        _weights(counted),
        _uncounted(rest),
        el("h3", "Causes and their shares"),
        el("ul", [_cause(c, c.cause is verdict.cause) for c in verdict.causes], class_="rows"),
        el("h3", "Best other explanation"),
        el("p", verdict.runner_up),
        el("h3", "The one check that would part the two"),
        el("p", verdict.ask_next or "None is named."),
        el("h3", "What would change the verdict"),
        el("ul", [el("li", w) for w in verdict.would_change] or el("li", "Nothing is named.")),
        el(
            "p",
            f"Policy {verdict.policy_version}, verdict ", el("code", verdict.id[:12]),
            f", {words.full(verdict.decided_at)}. ",
            "Evidence complete." if verdict.evidence_complete else "Evidence INCOMPLETE.",
            class_="small dim",
        ),
    ]  # fmt: skip


def _vetoes(verdict: Verdict) -> Child:
    if not verdict.vetoes:
        return None
    return el(
        "div",
        el("strong", "! Stops an automatic action"),
        el("ul", [el("li", el("code", v.code), " ", v.says) for v in verdict.vetoes]),
        class_="note tone-warn",
    )


def _weights(findings: Sequence[Finding]) -> Child:
    if not findings:
        return el("p", "No rule had anything to say.")
    sides = el("div", el("span"), el("span", el("span", "← acquits"), el("span", "blames →")),
               class_="sides", aria_hidden="true")  # fmt: skip
    return [sides, el("ul", [_weight(f) for f in findings], class_="rows")]


def _weight(finding: Finding) -> Html:
    about = []
    if finding.first_seen_at is not None:
        about.append(f"first seen {words.clock(finding.first_seen_at)} UTC")
    if finding.sustained_s:
        about.append(f"lasted {duration(finding.sustained_s)}")
    return el(
        "li",
        el("span", _signed(finding.weight), class_="value"),
        _bar(finding.weight),
        el(
            "div",
            el("strong", finding.group), " ", finding.says,
            el("div", ", ".join(about), class_="small dim") if about else None,
            class_="says",
        ),
        class_="weight",
    )  # fmt: skip


def _signed(weight: float) -> str:
    """With its sign; what rounds to nothing has none."""
    return f"{weight:+.1f}" if abs(weight) >= 0.05 else "0.0"


def _bar(weight: float) -> Html:
    share = min(abs(weight) / SCALE, 1.0) * 50
    side = "blames" if weight > 0 else "acquits"
    said = f"weight {_signed(weight)}: {side} the deployment" if share else "says nothing"
    bar = None
    if share:
        x = 50.0 if weight > 0 else 50.0 - share
        kind = "blame" if weight > 0 else "acquit"
        bar = el("rect", x=f"{x:.1f}%", y="15%", width=f"{share:.1f}%", height="70%", rx=2,
                 class_=f"bar-{kind}")  # fmt: skip
    return el(
        "svg",
        el("title", said),
        el("rect", x=0, y="15%", width="100%", height="70%", rx=3, class_="bar-ground"),
        bar,
        el("line", x1="50%", x2="50%", y1=0, y2="100%", class_="bar-axis"),
        role="img",
    )


def _uncounted(findings: Sequence[Finding]) -> Child:
    if not findings:
        return None
    return el(
        "details",
        el("summary", f"{len(findings)} more that did not count: of each group only the strongest"),
        el("ul", [_weight(f) for f in findings], class_="rows"),
    )


def _cause(cause: CauseProbability, top: bool) -> Html:
    kind = "bar-top" if top else "bar-share"
    name = words.CAUSES[cause.cause]
    return el(
        "li",
        el("strong" if top else "span", name),
        el(
            "svg",
            el("rect", x=0, y=0, width="100%", height="100%", rx=3, class_="bar-ground"),
            el("rect", x=0, y=0, width=f"{cause.probability * 100:.1f}%", height="100%", rx=3,
               class_=kind),
            aria_hidden="true",
        ),
        el("span", percent(cause.probability), class_="value"),
        class_="cause",
    )  # fmt: skip
