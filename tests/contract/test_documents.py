"""What is written about the code and can be derived from it: generated here, and checked."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from pathlib import Path

import pytest

from mcp_devops import __version__, errors
from mcp_devops.catalog import discover
from mcp_devops.errors import DevOpsError
from mcp_devops.toolkit.risk import Risk

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
START, END = "<!-- tools: written by `make generate` -->", "<!-- end of tools -->"


def tool_table() -> str:
    rows = ["| tool | what it does |", "| --- | --- |"]
    for integration in discover():
        for spec in integration.tools:
            change = " **(change)**" if spec.risk is not Risk.READ else ""
            first = spec.description.split("\n", 1)[0]
            rows.append(f"| `{spec.name}`{change} | {first} |")
    return "\n".join(rows)


def test_the_readmes_tool_table_is_what_the_code_declares() -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    made = f"{before}{START}\n{tool_table()}\n{END}{after}"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        README.write_text(made, encoding="utf-8")
    assert text == made or os.environ.get("UPDATE_SNAPSHOTS"), "run `make generate`"


def test_every_make_target_and_command_in_the_readme_exists() -> None:
    text = README.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    from typer.main import get_command

    from mcp_devops.cli.main import app

    command = get_command(app)
    known = set(command.list_commands(None))  # type: ignore[attr-defined]  # a click Group
    named = set(re.findall(r"mcp-devops ([a-z]+)\b", text))
    assert named - known == set(), named - known


def test_every_path_in_the_readme_exists() -> None:
    text = README.read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).exists(), path


def test_every_error_has_a_stable_code_of_its_own_and_stands_in_the_drawn_tree() -> None:
    def below(kind: type[DevOpsError]) -> list[type[DevOpsError]]:
        return [kind, *(s for c in kind.__subclasses__() for s in below(c))]

    kinds = [k for k in below(DevOpsError) if not k.__subclasses__()]
    codes = [k.code for k in kinds]
    assert len(set(codes)) == len(codes)
    for kind in kinds:
        assert re.fullmatch(r"[A-Z_]+", kind.code) and kind.code != "ERROR"
        assert re.search(rf"^ +{kind.__name__} +{kind.code}\b", errors.__doc__ or "", re.M), kind


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "mcp_devops").rglob("*.py")),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_a_module_is_small_says_what_it_is_and_never_prints(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 600
    assert text.lstrip().startswith('"""')
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"]


def test_nothing_names_a_path_of_a_machine() -> None:
    import subprocess

    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    suspicious = re.compile(r"/(?:home|root|work|Users)/[a-z]")
    bad = [
        name
        for name in listed
        if name.endswith((".py", ".md", ".toml", ".json", ".yml", ".yaml", ".sh"))
        and (ROOT / name).is_file()
        and name != "tests/contract/test_documents.py"
        and suspicious.search((ROOT / name).read_text(encoding="utf-8", errors="replace"))
    ]
    assert bad == []
