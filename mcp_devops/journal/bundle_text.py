"""The pages of a bundle that people read: how to check it, what happened, for which control."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_devops.journal.bundle_facts import Facts
from mcp_devops.text.budget import cut_middle

CELL_CHARS = 400
"""Characters of one cell; the whole text is in the JSON Lines files."""

RECIPE = """\
import hashlib, json, sys, zipfile

def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

with zipfile.ZipFile(sys.argv[1]) as bundle:
    names = bundle.namelist()
    manifest_bytes = bundle.read("manifest.json")
    manifest = json.loads(manifest_bytes)
    print("fingerprint", hashlib.sha256(manifest_bytes).hexdigest())
    assert sorted(names) == sorted([*manifest["files"], "manifest.json"]), "files added or gone"
    for name, told in manifest["files"].items():
        assert hashlib.sha256(bundle.read(name)).hexdigest() == told["sha256"], name
    links = [json.loads(line) for line in bundle.read("chain.jsonl").splitlines()]
    entries = [json.loads(line) for line in bundle.read("entries.jsonl").splitlines()]

for before, link in zip(links, links[1:]):
    assert link["seq"] == before["seq"] + 1 and link["prev_hash"] == before["hash"], link["seq"]
if links:
    assert f"{links[-1]['seq']}:{links[-1]['hash']}" == manifest["journal"]["head"], "head"
known = {link["seq"]: link for link in links}
last = 0
for entry in entries:
    assert entry["seq"] > last, "order"
    last = entry["seq"]
    assert entry["hash"] == known[last]["hash"], last
    assert entry["prev_hash"] == known[last]["prev_hash"], last
    if last not in manifest["redacted_again"]:
        fields = {k: v for k, v in entry.items() if k != "hash"}
        assert hashlib.sha256(canonical(fields)).hexdigest() == entry["hash"], last
print("whole:", len(entries), "entries,", len(links), "links")
"""
"""Checks a bundle with Python's standard library alone. Part of every README, and run by a test."""

CONTROLS: tuple[tuple[str, str, str], ...] = (
    ("SOC 2 CC7.2", "Monitoring for anomalies",
     "verdicts.jsonl: what was compared, with which limit, and when it began (findings)."),
    ("SOC 2 CC7.3", "Evaluation of events",
     "verdicts.jsonl: verdict, probability, policy version, vetoes, missing evidence."),
    ("SOC 2 CC7.4", "Response to incidents",
     "incidents.jsonl, approvals.jsonl, actions.jsonl: who did what, when, in which order."),
    ("SOC 2 CC7.5", "Recovery",
     "actions.jsonl and incidents.jsonl: outcome of each change and the incident's last status."),
    ("SOC 2 CC8.1", "Authorised changes",
     "approvals.jsonl: the exact plan by digest, who asked, who answered, through which channel."),
    ("PCI DSS 10.2", "Audit logs are written",
     "entries.jsonl: calls, decisions, approvals and changes; starts are written before they run."),
    ("PCI DSS 10.2.2", "Content of a log entry",
     "entries.jsonl: actor, kind, time, outcome, subject, and the call or incident it belongs to."),
    ("PCI DSS 10.3", "Logs are protected against change",
     "chain.jsonl: each entry names the hash of the one before; the tables refuse change."),
    ("PCI DSS 10.6", "Time synchronisation",
     "manifest.json, `clock`: what the kernel said about the clock when the bundle was made."),
    ("PCI DSS 12.10", "Incident response",
     "incidents.jsonl: each incident from its opening to its last status."),
)  # fmt: skip
"""(control, subject, where the facts are). Whether a control is met, an auditor says."""

NOT_HERE = (
    "Not in this bundle: how long the journal is kept, who reads it and how often (PCI DSS 10.4,"
    " 10.5), and who may reach the database."
)

_MARKDOWN = re.compile(r"([\\`*_\[\]|#])")


def pages(manifest: Mapping[str, Any], facts: Facts) -> dict[str, bytes]:
    """The files for people, by name: the same manifest and entries give the same."""
    controls = [dict(zip(("control", "subject", "where"), c, strict=True)) for c in CONTROLS]
    listed = {"controls": controls, "not_in_bundle": NOT_HERE}
    return {
        "controls.json": json.dumps(listed, indent=2, ensure_ascii=False).encode() + b"\n",
        "summary.md": summary(manifest, facts).encode(),
        "README.md": readme(manifest).encode(),
    }


def readme(manifest: Mapping[str, Any]) -> str:
    """README.md: what is in the bundle, and how to check it without this program."""
    return f"""# Audit bundle of mcp-devops

Made {manifest["made_at"]} by mcp-devops {manifest["made_by"]}. {_selected(manifest["selection"])}

| file | what it is |
|---|---|
| manifest.json | selection, clock, state of the chain, and the SHA-256 of every other file |
| summary.md | what happened, for people |
| entries.jsonl | the journal entries of the selection, whole, one a line |
| chain.jsonl | number and hashes of every entry from the first selected to the newest of all |
| verdicts.jsonl | each decision with all findings, vetoes and the policy version |
| approvals.jsonl | each approval: the plan, who asked, who answered, on which verdict |
| actions.jsonl | each change: who, under which approval, how it ended |
| incidents.jsonl | each incident: every change of its status, and a person's later judgement |
| evidence.jsonl | evidence that incidents hold now; `proven_by`: an entry that tells the same |
| controls.json | which facts serve which control of SOC 2 and PCI DSS |

## Check it

`mcp-devops audit verify --bundle FILE` checks everything offline. Without mcp-devops: save this as
`check.py` and run `python3 check.py FILE` (Python 3.9 or later, nothing else).

```python
{RECIPE}```

An entry's hash is the SHA-256 of the entry without `hash`, as JSON with sorted keys, no spaces,
UTF-8. verdicts, approvals, actions and incidents follow from entries.jsonl alone, and so do
summary.md, controls.json and this page, with the manifest: `audit verify` writes them anew and
compares, which the program above does not. Evidence whose `proven_by` is null rests on no entry
of this bundle.

What a bundle cannot show by itself: that nobody made all of it anew, and that no entry of the
incident, or at the ends of the stretch of time, was left out. The fingerprint (SHA-256 of
manifest.json) shows both: compare it with the one that was told when the bundle was made and that
the journal holds as a note. A head of the journal that was kept elsewhere shows that the entries
here are the journal's, not that they are all.

Entries of other incidents appear in chain.jsonl by hash only. Secrets were taken out before entries
were written; entries from which more had to be taken out now are listed in manifest.json under
`redacted_again`, and their content cannot be checked against their hash.
"""


def summary(manifest: Mapping[str, Any], facts: Facts) -> str:
    """summary.md: the same facts as tables."""
    journal, clock = manifest["journal"], manifest["clock"]
    parts = [
        "# What happened",
        _selected(manifest["selection"]),
        f"- Journal: {_cell(journal['says'])} Head: `{journal['head'] or 'none'}`.\n"
        f"- Clock: {_cell(clock['says'])} Times below are UTC, as each server's clock gave them;"
        f" the order is that of the journal. Times that run backwards: {clock['steps_back']}.\n"
        f"- Entries: {manifest['entries']}"
        + "".join(f", {kind} {n}" for kind, n in sorted(facts.counts.items()))
        + ".",
        "## Incidents",
        _table(
            ("incident", "target", "first entry", "last status", "last change",
             "judged afterwards"),
            [_incident(i) for i in facts.incidents.values()],
        ),
        "## Verdicts",
        _table(
            ("entry", "at", "target", "verdict", "probability", "policy", "vetoes"),
            [_verdict(v) for v in facts.verdicts],
        ),
        "What each verdict rests on; a positive weight blames the deployment:",
        _table(
            ("entry", "verdict", "weight", "finding", "counted"),
            [row for v in facts.verdicts for row in _findings(v)],
        ),
        "## Approvals",
        _table(
            ("approval", "what", "asked by", "on verdict", "evidence", "answer", "by", "at",
             "channel", "note"),
            [_approval(a) for a in facts.approvals.values()],
        ),
        "## Changes",
        _table(
            ("entry", "at", "what", "by", "approval", "approved by", "outcome", "ended"),
            [_action(a) for a in facts.actions.values()],
        ),
        "## In order",
        _table(("entry", "at", "incident", "who", "what"), facts.events),
        "## Controls",
        _table(("control", "subject", "where the facts are"), CONTROLS),
        NOT_HERE,
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _incident(record: Mapping[str, Any]) -> tuple[Any, ...]:
    changes, judged = record["changes"], record["judged"]
    first, last = (changes[0], changes[-1]) if changes else ({}, {})
    said = None
    if judged is not None:
        said = f"{'right' if judged['was_right'] else 'wrong'}, by {judged['by']}, {judged['at']}"
        said += f": {judged['note']}" if judged["note"] else ""
    return (
        record["incident_id"], record["target"], first.get("at"), record["last_status"],
        last.get("what"), said,
    )  # fmt: skip


def _verdict(record: Mapping[str, Any]) -> tuple[Any, ...]:
    verdict = record["verdict"]
    return (
        record["seq"], record["at"], record["target"],
        f"{verdict.get('action')}: {verdict.get('headline')}", _share(verdict.get("confidence")),
        verdict.get("policy_version"), _vetoes(verdict.get("vetoes")),
    )  # fmt: skip


def _findings(record: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    verdict = record["verdict"]
    return [
        (
            record["seq"], str(verdict.get("id"))[:12], f.get("weight"), f.get("says"),
            "yes" if f.get("counted", True) else "no",
        )
        for f in _mappings(verdict.get("findings"))
    ]  # fmt: skip


def _vetoes(vetoes: Any) -> str:
    return " / ".join(str(veto.get("says")) for veto in _mappings(vetoes)) or "none"


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    return [f for f in found if isinstance(f, Mapping)] if isinstance(found, Sequence) else []


def _share(value: Any) -> Any:
    """A probability as people read it; the whole number is in the JSON Lines files."""
    return f"{value:.1%}" if isinstance(value, int | float) else value


def _approval(record: Mapping[str, Any]) -> tuple[Any, ...]:
    last = record["answers"][-1] if record["answers"] else {}
    verdict, seq = record.get("verdict_id"), record.get("verdict_seq")
    on = f"{str(verdict)[:12]}, entry {seq or 'not in this bundle'}" if verdict else None
    whole = record.get("evidence_complete")
    return (
        record["approval_id"], record.get("what"), record.get("requested_by"), on,
        None if whole is None else "complete" if whole else "NOT complete",
        last.get("status", "none yet"), last.get("by"), last.get("at"), last.get("channel"),
        last.get("note") or None,
    )  # fmt: skip


def _action(record: Mapping[str, Any]) -> tuple[Any, ...]:
    finished = record.get("finished") or {}
    return (
        record["seq"], record["at"], record.get("what") or record["tool"], record.get("by"),
        record.get("approval_id"), record.get("approved_by"),
        finished.get("status", "none recorded"), finished.get("at"),
    )  # fmt: skip


def _selected(selection: Mapping[str, Any]) -> str:
    if incident := selection.get("incident"):
        return f"Selected: incident {_cell(incident)}, with the calls and server starts around it."
    since, until = selection.get("since"), selection.get("until")
    if since or until:
        return f"Selected: entries from {since or 'the beginning'} until {until or 'the end'}."
    return "Selected: the whole journal."


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "None."
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*head, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: Any) -> str:
    """Text from outside can be neither markup nor a row of its own."""
    if value is None:
        return "-"
    text = cut_middle(" ".join(str(value).split()), CELL_CHARS)
    return _MARKDOWN.sub(r"\\\1", html.escape(text, quote=False))
