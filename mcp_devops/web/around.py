"""The parts of the page about pods, the change itself, what is missing, and what lies around."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mcp_devops.model.change import Change, TemplateDifference
from mcp_devops.model.evidence import DiagnosticContext, Missing, Neighbour, RevisionPods
from mcp_devops.model.surroundings import Drift, ImageRisk, OutboundCalls, ReleaseIssues
from mcp_devops.text.people import plural
from mcp_devops.web import words
from mcp_devops.web.html import Child, Html, el

MOST_PODS = 60
"""Pods that are drawn one by one."""
MOST = 30
"""Entries of a list that are shown; how many more there are is said."""


def listed(items: Sequence[Html], kind: str = "rows") -> Child:
    """A list of at most `MOST` entries."""
    left = len(items) - MOST
    more = el("p", f"{left} more are in the record.", class_="small dim") if left > 0 else None
    return [el("ul", list(items[:MOST]), class_=kind), more]


def missing_note(missing: Sequence[Missing]) -> Child:
    """What could not be seen, loudly; None where all was seen."""
    if not missing:
        return None
    needed = sum(m.needed for m in missing)
    what = "none of them needed for an automatic action"
    if needed:
        what = f"{needed} of them needed for an automatic action"
    items = [
        el("li", el("strong", f"{m.source}: "), f"{m.what}. ", m.why,
           " (needed)" if m.needed else None)
        for m in missing[:MOST]
    ]  # fmt: skip
    left = len(missing) - len(items)
    return el(
        "div",
        el("strong", f"! Not seen: {plural(len(missing), 'fact')}, {what}"),
        el("ul", items, el("li", f"{left} more") if left > 0 else None),
        el("p", "What was not seen is not healthy: it is unknown.", class_="small"),
        class_=f"note tone-{'bad' if needed else 'warn'}",
        id="missing",
    )


def pods_part(found: DiagnosticContext | None) -> Child:
    """Pods of the old and the new revision."""
    rollout = found.rollout if found else None
    if rollout is None:
        return el("p", "Pods were not read: their state is unknown.")
    groups = [("New revision", rollout.new)]
    if rollout.old is not None:
        groups.append(("Old revision", rollout.old))
    kind = rollout.rollout_class.value.replace("_", " ")
    return [
        el("p", rollout.summary),
        el("div", [_pods(name, pods) for name, pods in groups], class_="pods"),
        None if rollout.old else el("p", "No pod of an old revision is left.", class_="small"),
        el(
            "p",
            f"{rollout.available} of {rollout.desired} available, at least"
            f" {rollout.fewest_available} promised during a rollout; seen as: {kind}.",
            class_="small dim",
        ),
    ]


def _pods(name: str, pods: RevisionPods) -> Html:
    # A failing pod may be ready between two crashes; it is drawn once.
    failing = min(max(pods.failing, 0), pods.pods)
    ready = max(0, min(pods.ready, pods.pods - failing))
    states = [
        *[("good", "✓", "ready")] * ready,
        *[("bad", "✕", "failing")] * failing,
        *[("warn", "…", "not ready")] * max(pods.pods - ready - failing, 0),
    ]
    drawn = [
        el("li", sign, class_=f"pod tone-{tone}", title=said, aria_label=said)
        for tone, sign, said in states[:MOST_PODS]
    ]
    left = len(states) - len(drawn)
    facts = [f"{pods.ready} of {pods.pods} ready", f"{pods.failing} failing"]
    if pods.failing:
        facts.append(words.trouble(pods.cause))
    if pods.restarts:
        facts.append(plural(pods.restarts, "restart"))
    if pods.exit_codes:
        facts.append("exit " + ", ".join(str(c) for c in pods.exit_codes))
    return el(
        "div",
        el("strong", name, f" {pods.revision}" if pods.revision else None),
        el("ul", drawn, el("li", f"+{left}") if left > 0 else None, class_="dots"),
        el("div", ", ".join(facts)),
        el(
            "div",
            el("div", "Last words of a failing container (data, no weight):", class_="small dim"),
            el("blockquote", el("code", pods.log_line)),
        )
        if pods.log_line
        else None,
    )


def change_part(change: Change | None) -> Child:
    """What the deployment changed."""
    if change is None:
        return el("p", "No rollout was found: what changed is unknown.")
    before = f", was {change.previous.number}" if change.previous else ", nothing to go back to"
    cause = change.revision.change_cause
    return [
        el(
            "p",
            f"Revision {change.revision.number}{before}. Began to roll out ",
            words.full(change.started_at), ".",
        ),
        el("p", "Its author says: ", cause) if cause else None,
        _managed(change.managed_by),
        listed([_difference(d) for d in change.differences])
        if change.differences
        else el("p", "The pod template does not differ from the revision before."),
    ]  # fmt: skip


def _managed(by: str | None) -> Child:
    if not by:
        return None
    return el("div", el("strong", "! May undo an undo: "), by, class_="note tone-warn")


def _difference(change: TemplateDifference) -> Html:
    return el(
        "li",
        el("span", el("code", change.path), class_="path"),
        el("span", el("b", "before"), el("code", change.before or "(absent)")),
        el("span", el("b", "after"), el("code", change.after or "(absent)")),
        class_="diff",
    )


def around_part(found: DiagnosticContext | None) -> Child:
    """Capacity, neighbours, dependencies, drift, image and issues: what is recorded of each."""
    if found is None:
        return el("p", "No evidence is recorded.")
    image = found.image_difference
    parts: list[tuple[str, list[Html]]] = [
        ("Capacity changes", [_dated(e.at, e.what, e.source) for e in found.scaling]),
        ("Other services in the same minutes", [_neighbour(n) for n in _sick_first(found)]),
        ("Its calls to dependencies", [_calls(c) for c in found.outbound]),
        ("Infrastructure drift", [_drift(d) for d in found.drift]),
        ("Image difference", [el("li", image.summary)] if image else []),
        ("Vulnerabilities of the image", _risk(found.image_risk)),
        ("Issues of the release", _issues(found.issues)),
    ]
    shown = [[el("h3", title), listed(items)] for title, items in parts if items]
    nothing = [title.lower() for title, items in parts if not items]
    rest = (
        el(
            "p",
            f"Nothing recorded of: {', '.join(nothing)}. Either nothing was found, or the source"
            " is not configured.",
            class_="small dim",
        )
        if nothing
        else None
    )
    return [shown, rest]


def _sick_first(found: DiagnosticContext) -> list[Neighbour]:
    return sorted(found.neighbours, key=lambda n: (not n.sick, n.service))


def _dated(at: datetime, what: str, who: str) -> Html:
    return el(
        "li", el("strong", f"{words.clock(at)} UTC "), what, " ", el("span", who, class_="dim")
    )


def _neighbour(one: Neighbour) -> Html:
    said = "✕ in trouble" if one.sick else "✓ fine"
    rates = f"errors {words.rate(one.baseline_error_rate)} → {words.rate(one.after_error_rate)}"
    if not one.sick and one.after_error_rate is None:
        said = "? not measured"
    more = f", {words.count(one.requests)} requests" if one.requests is not None else ""
    also = ", deployed recently itself" if one.deployed_recently else ""
    return el("li", el("strong", one.service), f" {said}: {rates}{more}{also}")


def _calls(calls: OutboundCalls) -> Html:
    arms = ""
    if calls.old_error_rate is not None or calls.new_error_rate is not None:
        arms = (
            f"; old revision {words.rate(calls.old_error_rate)}, new"
            f" {words.rate(calls.new_error_rate)}"
        )
    return el(
        "li",
        el("strong", calls.dependency),
        f" failed calls {words.rate(calls.baseline_error_rate)} →"
        f" {words.rate(calls.after_error_rate)} ({words.count(calls.failed)} of"
        f" {words.count(calls.calls)}){arms}",
    )


def _drift(drift: Drift) -> Html:
    return el(
        "li",
        el("span", drift.area.value, class_="tag"),
        el("code", drift.address), " ", drift.what,
        el("div", f"declared at {drift.where}", class_="small dim") if drift.where else None,
        el("div", "names this service", class_="small dim") if drift.names_service else None,
    )  # fmt: skip


def _risk(risk: ImageRisk | None) -> list[Html]:
    if risk is None:
        return []
    held = "✕ must not go on. " if risk.hold else ""
    return [
        el("li", el("strong", held), risk.summary),
        *[el("li", reason) for reason in risk.reasons],
        *[el("li", "Limit: ", limit, class_="dim") for limit in risk.limits],
    ]


def _issues(issues: ReleaseIssues | None) -> list[Html]:
    if issues is None:
        return []

    def told(counts: dict[str, int]) -> str:
        return ", ".join(f"{n} {level}" for level, n in counts.items()) or "none"

    return [
        el(
            "li",
            el("strong", issues.release),
            f" new: {told(issues.new)}; came back: {told(issues.regressed)};"
            f" {plural(issues.events, 'event')} ({issues.source})",
        ),
        *[el("li", el("code", one)) for one in issues.worst],
    ]


def share_of(found: DiagnosticContext | None) -> str:
    """Ready pods of the new revision, for the strip of facts."""
    if found is None or found.rollout is None:
        return words.NO_DATA
    new = found.rollout.new
    return f"{new.ready} of {new.pods}"
