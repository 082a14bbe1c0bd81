"""The incident page in a real browser: drawn, quiet, and no wider than a phone."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, types

from mcp_devops.incidents.account import cleaned
from mcp_devops.text.secrets import Redactor
from mcp_devops.web.incident_page import incident_page
from tests.clients.browser import Browser, browsing
from tests.clients.processes import ROOT, TOKEN, serving
from tests.support.accounts import full_account, poisoned
from tests.support.evidence import seconds
from tests.support.process import command, environment

pytestmark = pytest.mark.client

SCENARIOS = ("error-spike", "crash-loop", "upstream-outage", "slow-after-scaling")
ROLLED_BACK = {"error-spike", "crash-loop"}
SIZES = [(1280, 900), (360, 800)]
LISTENING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")
WORKLOADS = {
    "error-spike": "payments",
    "crash-loop": "cart",
    "upstream-outage": "orders",
    "slow-after-scaling": "pricing",
}
WIDER = """(() => {
  const wide = document.documentElement.clientWidth;
  return [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll') && !e.closest('svg') && e.offsetParent)
    .filter(e => e.getBoundingClientRect().right > wide + 0.5)
    .map(e => e.tagName + '.' + e.className);
})()"""
SMALL = """(() => {
  const texts = [...document.querySelectorAll('svg.chart text')].filter(t => t.getClientRects()
    .length && t.getBoundingClientRect().width);
  return [texts.length, Math.min(...texts.map(t => t.getBoundingClientRect().height))];
})()"""
OUTSIDE = """(() => [...document.querySelectorAll('svg.chart')].flatMap(s => {
  const box = s.getBoundingClientRect();
  if (!box.width) return [];
  return [...s.querySelectorAll('text')].filter(t => {
    const r = t.getBoundingClientRect();
    return r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1;
  }).map(t => t.textContent);
}))()"""


async def _yes(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"approve": True, "note": "go"})


async def _played(scenario: str, folder: Path) -> str:
    """Play a recorded incident with the real server to its end; gives the incident's id."""
    first, *rest = command("--scenario", scenario, "--log-level", "ERROR", state_dir=folder)
    server = StdioServerParameters(command=first, args=rest, env=environment(folder))
    async with Client(server, elicitation_callback=_yes, read_timeout_seconds=180) as client:
        place = {"namespace": "shop", "workload": WORKLOADS[scenario]}
        found = await client.call_tool("incident_investigate", place)
        assert found.structured_content is not None, found
        incident = {"incident_id": found.structured_content["incident_id"]}
        await client.call_tool("incident_decide", incident)
        if scenario in ROLLED_BACK:
            done = await client.call_tool("incident_roll_back", incident)
            assert not done.is_error, done
    return str(incident["incident_id"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="module")
def pages(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Path, Path]]]:
    """By scenario: the page that the command wrote, and the state directory it is from."""
    made = {}
    for scenario in SCENARIOS:
        folder = tmp_path_factory.mktemp(scenario)
        incident = asyncio.run(_played(scenario, folder))
        path = folder / "page.html"
        done = subprocess.run(
            [sys.executable, "-m", "mcp_devops", "incident", "page", incident, "-o", str(path),
             "--state-dir", str(folder)],
            env=environment(folder), cwd=folder, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made[scenario] = (path, folder)
    yield made


def _kept(name: str, folder: Path) -> Path:
    """Where a screenshot goes: PAGES_DIR if a person wants to look, else the test's folder."""
    chosen = Path(os.environ.get("PAGES_DIR", folder))
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen / f"{name}.png"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES, ids=["desktop", "phone"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_page_is_drawn_asks_for_nothing_and_fits(
    browser: Browser,
    pages: dict[str, tuple[Path, Path]],
    tmp_path: Path,
    scenario: str,
    width: int,
    height: int,
    dark: bool,
) -> None:
    path, _ = pages[scenario]
    look = browser.open(path.as_uri(), width, height, dark=dark)
    theme = "dark" if dark else "light"
    png = browser.screenshot(_kept(f"{scenario}-{width}-{theme}", tmp_path))
    assert look.complaints == []
    assert [url for url in look.asked_for if not url.startswith("data:")] == [path.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(WIDER) == []
    assert len(png) > 60_000, "blank"
    assert browser.evaluate(OUTSIDE) == []
    texts, smallest = browser.evaluate(SMALL)
    assert texts >= 15 and smallest >= 10
    assert browser.evaluate("document.querySelectorAll('polyline').length") >= 4
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) is dark


@pytest.mark.parametrize(("width", "height"), SIZES, ids=["desktop", "phone"])
def test_a_record_in_which_nothing_is_empty_fits_as_well(
    browser: Browser, tmp_path: Path, width: int, height: int
) -> None:
    long = "x" * 3000
    for name, account in (("full", full_account()), ("long", poisoned(full_account(), long))):
        path = tmp_path / "page.html"
        path.write_text(incident_page(cleaned(account, Redactor(())), seconds(900)), "utf-8")
        look = browser.open(path.as_uri(), width, height)
        browser.screenshot(_kept(f"{name}-{width}", tmp_path))
        assert look.complaints == [] and browser.evaluate(WIDER) == []
        assert browser.evaluate(OUTSIDE) == []
        # However long the service's name is, the state is on the first screen.
        state = "document.querySelector('h1').getBoundingClientRect().top"
        assert browser.evaluate(state) < 200


def test_the_first_screen_of_a_phone_says_state_and_outcome(
    browser: Browser, pages: dict[str, tuple[Path, Path]]
) -> None:
    for scenario, said in (("error-spike", "Recovered"), ("upstream-outage", "Hold")):
        browser.open(pages[scenario][0].as_uri(), 360, 800)
        bottom, text = browser.evaluate(
            "[document.querySelector('.lead').getBoundingClientRect().bottom,"
            " document.querySelector('h1').innerText]"
        )
        assert said in text and bottom < 500


def test_assistive_technology_gets_headings_pictures_and_parts(
    browser: Browser, pages: dict[str, tuple[Path, Path]]
) -> None:
    browser.open(pages["error-spike"][0].as_uri(), 1280, 900)
    nodes = [n for n in browser.accessibility() if not n.get("ignored")]
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if "role" in n]
    assert ("heading", "Requests over time") in named
    pictures = [name for role, name in named if role in ("image", "img", "graphics-document")]
    assert any("Failed requests, share" in name and "new revision" in name for name in pictures)
    assert all(name for role, name in named if role in ("image", "img", "link", "region"))


def test_the_page_prints_with_its_tables_open(
    browser: Browser, pages: dict[str, tuple[Path, Path]]
) -> None:
    browser.open(pages["error-spike"][0].as_uri(), 1280, 900)
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate(
        "[...document.querySelectorAll('details')].every(d => d.querySelector('summary')"
        ".nextElementSibling.getBoundingClientRect().height > 0)"
    )


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "token"])
def test_over_http_list_and_page_are_quiet_too(
    browser: Browser, pages: dict[str, tuple[Path, Path]], tmp_path: Path, guarded: bool
) -> None:
    _, folder = pages["error-spike"]
    program = command("--http", "127.0.0.1:0", "--log-level", "INFO", state_dir=folder)
    more = {"MCP_DEVOPS_HTTP__TOKENS": f"ann={TOKEN}"} if guarded else {}
    headers = {"Authorization": f"Bearer {TOKEN}"} if guarded else {}
    with serving(program, environment(folder, **more), ROOT, LISTENING) as url:
        for width, height in SIZES:
            look = browser.open(f"{url}/incidents", width, height, headers=headers)
            browser.screenshot(_kept(f"list-{width}", tmp_path))
            assert look.complaints == [] and browser.evaluate(WIDER) == []
            link = browser.evaluate("document.querySelector('.list a').href")
            look = browser.open(link, width, height, headers=headers)
            assert look.complaints == [] and browser.evaluate(WIDER) == []
            assert browser.evaluate("document.querySelectorAll('polyline').length") >= 4
        if guarded:
            # It would ask a person now; nobody is there to answer.
            with pytest.raises(AssertionError, match="ERR_INVALID_AUTH_CREDENTIALS"):
                browser.open(f"{url}/incidents", 1280, 900)
            browser.open(f"{url.replace('://', f'://ann:{TOKEN}@')}/incidents", 1280, 900)
            assert browser.evaluate("document.querySelectorAll('.list').length") == 1
            link = browser.evaluate("document.querySelector('.list a').href")
            browser.open(link, 1280, 900)
            assert browser.evaluate("document.querySelectorAll('polyline').length") >= 4
