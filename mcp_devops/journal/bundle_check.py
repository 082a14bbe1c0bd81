"""Checks an audit bundle offline: whether anything in it was changed, removed, moved or added."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcp_devops.errors import InvalidArguments, Unsupported
from mcp_devops.journal.bundle import FORMAT
from mcp_devops.journal.bundle_facts import Facts, bears_out
from mcp_devops.journal.bundle_text import pages
from mcp_devops.journal.bundle_zip import holds_more
from mcp_devops.journal.chain import parse_anchor
from mcp_devops.journal.entry import hash_of
from mcp_devops.model.record import Record, canonical_json

FILES = frozenset(
    {
        "README.md", "summary.md", "entries.jsonl", "chain.jsonl", "verdicts.jsonl",
        "approvals.jsonl", "actions.jsonl", "incidents.jsonl", "evidence.jsonl", "controls.json",
    }
)  # fmt: skip
"""What every bundle holds beside its manifest."""

MANIFEST_LIMIT = 64 * 1024 * 1024
"""Bytes of a manifest that are read."""

LINE_LIMIT = 4 * 1024 * 1024
"""Bytes of one line that are read; an entry has a fraction of it."""

PROBLEMS_SHOWN = 20
"""Problems that are listed; one cut can break every link after it."""

_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What `zipfile` raises for a file that is damaged; the last two for a compression that it lacks,
and for a member that is encrypted. Each becomes an InvalidArguments that says so."""


class BundleReport(Record):
    """What a check found."""

    ok: bool
    """Whether nothing is wrong."""
    entries: int
    """Entries read."""
    fingerprint: str
    """SHA-256 of the manifest: compare it with the one told when the bundle was made."""
    head: str | None
    """`seq:hash` of the last link."""
    chain_was_whole: bool
    """What the journal itself was found to be when the bundle was made."""
    unproven: tuple[int, ...]
    """Entries whose content was redacted again: only their place is proven."""
    unproven_evidence: tuple[str, ...]
    """Incidents whose evidence no entry of the bundle proves."""
    problems: tuple[str, ...]
    """What is wrong, the first `PROBLEMS_SHOWN`."""
    says: str
    """One sentence for a person."""


def verify_bundle(
    path: Path, *, anchor: str | None = None, fingerprint: str | None = None
) -> BundleReport:
    """Check a bundle by what is in it, and by what was kept elsewhere if that is given.

    Args:
        path: The zip.
        anchor: `seq:hash` of the journal, kept elsewhere: must be in the bundle's chain.
        fingerprint: The one that was told when the bundle was made.

    Raises:
        InvalidArguments: It is no bundle, or the anchor is malformed.
        Unsupported: It was made by a version with another form.
    """
    known = parse_anchor(anchor) if anchor is not None else None
    try:
        with zipfile.ZipFile(path) as archive:
            checker = _Checker(archive)
            checker.check(known, fingerprint, path.stat().st_size)
    except OSError as problem:
        raise InvalidArguments(
            f"{path} cannot be read: {problem.strerror}.", fix="Name a bundle that is there."
        ) from problem
    except _BROKEN_ZIP as problem:
        raise InvalidArguments(
            f"{path} is not a whole zip file.",
            fix="Fetch it again; what it held cannot be checked as it is.",
            upstream=str(problem),
        ) from problem
    return checker.report()


class _Checker:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._problems: list[str] = []
        self._fingerprint = ""
        self._manifest = self._read_manifest()
        again = self._manifest.get("redacted_again")
        self._unproven = frozenset(again if isinstance(again, list) else ())
        self._unproven_evidence: list[str] = []
        self._entries = 0
        self._seen: set[int] = set()
        self._head: str | None = None

    def check(self, anchor: tuple[int, str] | None, fingerprint: str | None, size: int) -> None:
        if fingerprint is not None and fingerprint.strip().lower() != self._fingerprint:
            self._wrong(f"The fingerprint is {self._fingerprint}, not the one that was kept.")
        if not self._check_files():
            return
        if holds_more(self._archive, size):
            self._wrong("The zip holds something beside its files.")
        links = self._check_links(anchor)
        facts = self._check_entries(links)
        self._check_none_left_out(links)
        for name, content in facts.files().items():
            self._compare(name, content, "entries.jsonl")
        try:
            told = pages(self._manifest, facts)
        except (KeyError, TypeError, AttributeError):
            self._wrong("The manifest has not the fields of a manifest.")
        else:
            for name, content in told.items():
                self._compare(name, content, "entries.jsonl and the manifest")
        self._check_evidence(facts)
        if self._manifest.get("entries") != self._entries:
            self._wrong(f"The manifest tells of {self._manifest.get('entries')} entries.")

    def report(self) -> BundleReport:
        count, wrong = self._entries, len(self._problems)
        journal = _mapping(self._manifest.get("journal"))
        unproven = tuple(sorted(s for s in self._unproven if isinstance(s, int)))
        says = f"All {count} entries of the bundle are as they were written, in their order."
        if unproven:
            says += f" The content of {len(unproven)} was redacted again and cannot be proven."
        if self._unproven_evidence:
            says += f" The evidence of {len(self._unproven_evidence)} incidents rests on no entry."
        if wrong:
            says = f"The bundle is not as it was made: {self._problems[0]}"
        return BundleReport(
            ok=not wrong,
            entries=count,
            fingerprint=self._fingerprint,
            head=self._head,
            chain_was_whole=journal.get("chain_is_whole") is True,
            unproven=unproven,
            unproven_evidence=tuple(self._unproven_evidence),
            problems=tuple(self._problems),
            says=says,
        )

    def _compare(self, name: str, content: bytes, source: str) -> None:
        # The size first: what was blown up is not read.
        same = self._archive.getinfo(name).file_size == len(content)
        if not same or self._archive.read(name) != content:
            self._wrong(f"{name} does not follow from {source}.")

    def _check_none_left_out(self, links: Mapping[int, Any]) -> None:
        """As far as the chain shows it: all of it, or a stretch without a hole."""
        selection = _mapping(self._manifest.get("selection"))
        if selection.get("incident") is not None:
            return
        whole = selection.get("since") is None and selection.get("until") is None
        clock = _mapping(self._manifest.get("clock"))
        # Where times run backwards a stretch of time is none of the journal.
        if not whole and clock.get("steps_back") != 0:
            return
        first = min(links, default=1) if whole else min(self._seen, default=1)
        last = max(links, default=0) if whole else max(self._seen, default=0)
        if whole and first != 1:
            self._wrong(f"The chain begins with link {first}.")
        gone = next((seq for seq in range(first, last + 1) if seq not in self._seen), None)
        if gone is not None:
            self._wrong(f"Entry {gone} was left out.")

    def _check_evidence(self, facts: Facts) -> None:
        held = list(self._lines("evidence.jsonl"))
        if [record.get("incident_id") for record in held] != list(facts.incidents):
            self._wrong("evidence.jsonl is not that of the incidents.")
        for record in held:
            name, seq = str(record.get("incident_id")), record.get("proven_by")
            known, told = facts.evidence.get(name, (None, None))
            if seq is None:
                if record.get("evidence") is not None:
                    self._unproven_evidence.append(name)
            elif seq != known or not bears_out(told, record.get("evidence")):
                self._wrong(f"evidence.jsonl has not the evidence that entry {seq} tells of.")

    def _wrong(self, what: str) -> None:
        if len(self._problems) < PROBLEMS_SHOWN:
            self._problems.append(what)

    def _read_manifest(self) -> Mapping[str, Any]:
        try:
            with self._archive.open("manifest.json") as member:
                content = member.read(MANIFEST_LIMIT)
            manifest = json.loads(content)
        except (KeyError, ValueError) as problem:
            raise InvalidArguments(
                "The file is no audit bundle: it has no manifest.json that can be read.",
                fix="`mcp-devops audit export --soc2 -o FILE` makes one.",
            ) from problem
        self._fingerprint = hashlib.sha256(content).hexdigest()
        version = _mapping(manifest).get("format_version")
        if not isinstance(version, int) or isinstance(version, bool) or version != FORMAT:
            raise Unsupported(
                f"The bundle has the form {version!r}; this version reads {FORMAT}.",
                fix="Use the mcp-devops that made it, or follow the README.md in the bundle.",
            )
        return _mapping(manifest)

    def _check_files(self) -> bool:
        """Whether every file is there, once, with its hash; otherwise nothing more is read."""
        names = self._archive.namelist()
        told = _mapping(self._manifest.get("files"))
        for name in sorted({n for n in names if names.count(n) > 1}):
            self._wrong(f"{name} is there more than once.")
        for name in sorted({*FILES, *told} - {*names}):
            self._wrong(f"{name} is missing.")
        for name in sorted({*names} - {*FILES, "manifest.json"}):
            self._wrong(f"{name} was added.")
        whole = not self._problems
        for name in sorted(FILES & {*names}):
            summed = hashlib.sha256()
            with self._archive.open(name) as member:
                while part := member.read(1 << 20):
                    summed.update(part)
            if _mapping(told.get(name)).get("sha256") != summed.hexdigest():
                self._wrong(f"{name} is not the file that the manifest names.")
        return whole

    def _check_links(self, anchor: tuple[int, str] | None) -> dict[int, tuple[Any, Any]]:
        links: dict[int, tuple[Any, Any]] = {}
        last: tuple[int, Any] | None = None
        for link in self._lines("chain.jsonl"):
            seq = link.get("seq")
            if not isinstance(seq, int):
                self._wrong("chain.jsonl has a link without a number.")
                continue
            if last is not None and (seq != last[0] + 1 or link.get("prev_hash") != last[1]):
                self._wrong(f"Link {seq} does not follow from link {last[0]}.")
            last = (seq, link.get("hash"))
            links[seq] = (link.get("prev_hash"), link.get("hash"))
        self._head = f"{last[0]}:{last[1]}" if last else None
        if _mapping(self._manifest.get("journal")).get("head") != self._head:
            self._wrong("The last link is not the head that the manifest names.")
        if anchor is not None and links.get(anchor[0], (None, None))[1] != anchor[1]:
            self._wrong(f"The chain does not hold the anchored entry {anchor[0]}.")
        return links

    def _check_entries(self, links: dict[int, tuple[Any, Any]]) -> Facts:
        facts, last = Facts(), 0
        for entry in self._lines("entries.jsonl"):
            self._entries += 1
            seq = entry.get("seq")
            if not isinstance(seq, int) or seq <= last:
                self._wrong(f"Entry {seq} stands where it was not written: after {last}.")
            elif links.get(seq) != (entry.get("prev_hash"), entry.get("hash")):
                self._wrong(f"Entry {seq} is not the one of the chain.")
            elif seq not in self._unproven and hash_of(entry) != entry.get("hash"):
                self._wrong(f"Entry {seq} is not what was written: its hash does not fit.")
            if isinstance(seq, int):
                last = seq
                self._seen.add(seq)
            try:
                facts.add(entry)
            except (KeyError, TypeError, AttributeError):
                self._wrong(f"Entry {seq} has not the fields of an entry.")
        return facts

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        with self._archive.open(name) as member:
            number = 0
            while line := member.readline(LINE_LIMIT):
                if len(self._problems) == PROBLEMS_SHOWN:
                    return  # lines without end, all of them wrong, would take as long
                number += 1
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    value = None
                if not isinstance(value, dict) or canonical_json(value) + b"\n" != line:
                    self._wrong(f"Line {number} of {name} is not as it was written.")
                if isinstance(value, dict):
                    yield value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
