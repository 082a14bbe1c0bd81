from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_devops.incidents.account import cleaned
from mcp_devops.model.evidence import Arm
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.verdict import Action
from mcp_devops.text.secrets import Redactor
from mcp_devops.web.chart import Line, runs_of
from mcp_devops.web.incident_page import incident_page, lead
from mcp_devops.web.requests import error_rate, lines_of
from mcp_devops.web.words import state_of
from tests.support import evidence as made
from tests.support.accounts import bare_account, full_account, poisoned
from tests.support.evidence import seconds

NOW = seconds(900)
HOSTILE = "x\"'><script>alert(1)</script><img src=http://evil.example/x onerror=y>&lt;b&gt;{{}}"


class Structure(HTMLParser):
    """What a parser finds: elements with their attributes, links, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.links += [v or "" for n, v in attrs if n in ("href", "src", "xlink:href", "action")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


PLAIN = Redactor(())
CALM = Structure(incident_page(cleaned(poisoned(full_account(), "x"), PLAIN), NOW)).elements


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60).map(lambda text: f"x{text}x"))
@example(HOSTILE)
@example("x]]><svg onload=x><style>*{}</style></title><!--")
@example("x\u202e\x1b[2J\x00javascript:alert(1)")
def test_outside_text_never_becomes_markup(text: str) -> None:
    found = Structure(incident_page(cleaned(poisoned(full_account(), text), PLAIN), NOW))
    assert found.elements == CALM
    assert all(link.startswith(("#", "data:image/svg+xml,")) for link in found.links)
    assert not found.open


def test_the_page_asks_the_network_for_nothing_and_runs_nothing() -> None:
    html = unescape(incident_page(full_account(), NOW))
    found = Structure(incident_page(full_account(), NOW))
    names = {name for _, attributes in found.elements for name in attributes}
    assert "script" not in {tag for tag, _ in found.elements}
    assert not {n for n in names if n.startswith("on")} and "style" not in names
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "") and "url(" not in html
    assert "default-src 'none'" in html and "unsafe" not in html


def test_secrets_do_not_reach_the_page() -> None:
    known, token = "correct-horse-battery", "ghp_" + "a1B2c3D4e5" * 4
    text = f"password={token} and {known}"
    html = incident_page(cleaned(poisoned(full_account(), text), Redactor((known,))), NOW)
    assert token not in html and known not in html and "[REDACTED" in html


def test_a_tired_person_reads_state_and_outcome_first() -> None:
    text = Structure(incident_page(full_account(), NOW)).text
    start = text.index("Deployment shop/checkout, cluster prod")
    assert "Recovered" in text[start : start + 80]
    assert "Revision 42 was rolled back to 41. Errors 20% → 0.1%." in text[: start + 240]
    assert text.index("Not seen: 2 facts, 1 of them needed for an automatic action") < text.index(
        "Requests over time"
    )


@pytest.mark.parametrize("status", list(IncidentStatus))
def test_every_state_has_words_and_a_page(status: IncidentStatus) -> None:
    for account in (full_account(status=status), bare_account(status=status)):
        words, tone = state_of(account.incident)
        assert tone in ("good", "warn", "bad")
        assert words in Structure(incident_page(account, NOW)).text


@pytest.mark.parametrize("action", list(Action))
def test_a_judged_incident_says_what_to_do_next(action: Action) -> None:
    judged = full_account().incident.verdict
    assert judged is not None
    account = full_account(
        status=IncidentStatus.DECIDED,
        verification=None,
        verdict=judged.model_copy(update={"action": action, "ask_next": "Ask this."}),
    )
    text = Structure(incident_page(account, NOW)).text
    assert ("incident_roll_back" if action is Action.ROLL_BACK else "Ask this.") in text
    assert lead(account) == judged.headline


def test_an_incident_without_evidence_claims_nothing() -> None:
    text = Structure(incident_page(bare_account(), NOW)).text
    for said in (
        "No request numbers are recorded.",
        "That is not the same as no errors",
        "Pods were not read: their state is unknown.",
        "No verdict yet",
        "Nothing was changed",
        "no data",
    ):
        assert said in text
    assert "0%" not in text and "✓ fine" not in text


def test_every_part_of_the_record_is_on_the_page() -> None:
    text = Structure(incident_page(full_account(), NOW)).text
    for said in (
        "datadog has no numbers for these minutes.",
        "p99 is clamped",
        "panic: nil map",
        "exit 1, 137",
        "Argo CD application shop",
        "HPA scaled checkout from 6 to 3",
        "cart ✕ in trouble",
        "bank failed calls",
        "declared at main.tf:12",
        "✕ must not go on.",
        "SHOP-1 in pay()",
        "ConfigMaps stay.",
        "✓ approved by bob, through terminal",
        "after 20 s",
        "All 4 pods are ready.",
        "UPSTREAM_TIMEOUT",
        "12:abab",
        "9 entries about this incident",
        "was not walked",
        "✕ judged wrong by cleo",
        "the database",
    ):
        assert said in text, said


def test_what_nobody_has_judged_names_the_command_and_an_empty_timeline_says_so() -> None:
    account = full_account().model_copy(update={"judged": None, "happenings": ()})
    text = Structure(incident_page(account, NOW)).text
    assert f"Nobody has judged it yet: mcp-devops outcome {account.incident.id}" in text
    assert "Nothing has happened yet" in text
    bare = Structure(incident_page(bare_account(), NOW)).text
    assert "Was the decision right?" not in bare


def test_an_altered_record_is_said_loudly() -> None:
    account = full_account()
    proof = account.proof.model_copy(update={"changed": (3, 7), "all_of_them": False})
    text = Structure(incident_page(account.model_copy(update={"proof": proof}), NOW)).text
    assert "The record was altered: entries 3, 7" in text


def test_a_gap_in_a_line_stays_a_gap_and_never_reads_zero() -> None:
    values = (0.1, None, 0.2, 0.3)
    line = Line("new", "new", 60, tuple((seconds(60 * i), v) for i, v in enumerate(values)))
    assert [[v for _, v in run] for run in runs_of(line)] == [[0.1], [0.2, 0.3]]
    late = Line("new", "new", 60, ((seconds(0), 1.0), (seconds(300), 2.0)))
    assert len(runs_of(late)) == 2
    bucket = made.buckets(0, 60, [None, 0, 10, 10], [1, 0, None, 2])
    assert [error_rate(b) for b in bucket] == [None, None, None, 0.2]


def test_the_whole_service_is_not_drawn_twice_where_one_revision_is_all_of_it() -> None:
    group = [made.after(Arm.AFTER, [1, 2]), made.after(Arm.NEW, [1, 2])]
    assert [line.kind for line in lines_of(group, error_rate)] == ["new"]


def test_the_charts_say_in_words_and_in_a_table_what_they_draw() -> None:
    html = incident_page(full_account(), NOW)
    text = Structure(html).text
    assert html.count('role="img"') >= 4 and "<desc" in html
    assert "after, new revision: 0.2% to 20.2%, 1 gap" in text
    assert "revision 42 deployed at 03:00:00 UTC" in text and "rolled back at 03:06:20" in text
    assert "The charts as a table" in text and "errors, after, old revision" in text
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for names in re.findall(r'aria-labelledby="([^"]+)"', html):
        assert set(names.split()) <= set(ids)


def test_what_came_much_later_does_not_squeeze_the_chart() -> None:
    account = full_account()
    checked = account.incident.verification
    assert checked is not None
    late = checked.model_copy(update={"checked_at": seconds(500_000)})
    html = incident_page(full_account(verification=late), NOW)
    assert "0.1% after" not in html and "0.1% after" in incident_page(account, NOW)


def test_a_long_timeline_keeps_its_beginning_and_its_newest_end() -> None:
    account = full_account()
    one = account.happenings[0]
    many = tuple(one.model_copy(update={"what": f"step {i}."}) for i in range(300))
    text = Structure(incident_page(account.model_copy(update={"happenings": many}), NOW)).text
    assert "step 0." in text and "step 299." in text and "step 150." not in text
    assert "200 lines between are left out" in text


@pytest.mark.parametrize(
    ("status", "said"),
    [("denied", "✕ denied"), ("expired", "✕ expired, which is a no"), ("pending", "no answer")],
)
def test_only_a_yes_reads_as_a_yes(status: str, said: str) -> None:
    account = full_account()
    consent = account.consents[0].model_copy(update={"status": status})
    text = Structure(incident_page(account.model_copy(update={"consents": (consent,)}), NOW)).text
    assert said in text and "✓ approved" not in text
