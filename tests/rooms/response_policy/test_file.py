from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcp_devops.errors import NotConfigured
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.policy import Automatic, ResponsePolicy
from tests.support.response import ALONE, CART

NEVER = "version: 1\ndefaults: {automatic: never}\n"


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


def automatic(file: PolicyFile) -> Automatic:
    return file.current.explain(CART).rules.automatic


def test_without_a_path_what_is_built_in_holds(time: Time) -> None:
    file = PolicyFile(None, time)
    assert (file.current, file.problem) == (ResponsePolicy.built_in(), None)
    assert file.require() is file.current


def test_a_change_is_in_force_within_a_second(tmp_path: Path, time: Time) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ALONE, encoding="utf-8")
    file = PolicyFile(path, time)
    first = file.current
    assert automatic(file) is Automatic.VERDICT
    path.write_text(NEVER, encoding="utf-8")
    assert automatic(file) is Automatic.VERDICT, "looked at a moment ago"
    time.seconds += 1
    assert automatic(file) is Automatic.NEVER
    assert file.current.version != first.version


def test_a_version_that_is_not_valid_changes_nothing_and_is_told_once(
    tmp_path: Path, time: Time
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ALONE, encoding="utf-8")
    file = PolicyFile(path, time)
    valid = file.current
    path.write_text("version: 1\nscops: []\nlimit: {}\n", encoding="utf-8")
    time.seconds += 1
    problem = file.problem
    assert problem is not None and file.current is valid
    assert problem.in_force == valid.version and problem.version not in ("", valid.version)
    assert problem.says[0].startswith(f"{path}:2:1: There is no key scops. Did you mean 'scopes'?")
    assert valid.version in problem.headline and "(and 1 more)" in problem.headline
    time.seconds += 60
    assert file.problem is problem, "the same value: nothing to tell again"
    path.write_text(NEVER, encoding="utf-8")
    time.seconds += 1
    assert file.problem is None and automatic(file) is Automatic.NEVER


def test_a_file_that_is_gone_leaves_its_policy_in_force(tmp_path: Path, time: Time) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ALONE, encoding="utf-8")
    file = PolicyFile(path, time)
    valid = file.current
    path.unlink()
    time.seconds += 1
    assert file.current is valid
    gone = file.problem
    assert gone is not None and "No such file" in gone.headline
    time.seconds += 1
    assert file.problem is gone
    path.write_text(ALONE, encoding="utf-8")
    time.seconds += 1
    assert file.problem is None and file.current.version == valid.version


@pytest.mark.parametrize("content", [None, "", "version: 3\n"])
def test_a_start_with_no_valid_version_is_refused_and_nothing_is_done_alone(
    tmp_path: Path, time: Time, content: str | None
) -> None:
    path = tmp_path / "policy.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    file = PolicyFile(path, time)
    assert automatic(file) is Automatic.ASK
    with pytest.raises(NotConfigured) as refused:
        file.require()
    assert f"{path}:1:1: " in refused.value.what


def test_an_atomic_replacement_is_seen(tmp_path: Path, time: Time) -> None:
    path, other = tmp_path / "policy.yaml", tmp_path / "new"
    path.write_text(ALONE, encoding="utf-8")
    file = PolicyFile(path, time)
    assert automatic(file) is Automatic.VERDICT
    other.write_text(NEVER, encoding="utf-8")
    os.replace(other, path)
    time.seconds += 100
    assert automatic(file) is Automatic.NEVER


def test_the_swapped_link_of_a_config_map_is_seen(tmp_path: Path, time: Time) -> None:
    for name, content in (("..one", ALONE), ("..two", NEVER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(content, encoding="utf-8")
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    file = PolicyFile(tmp_path / "policy.yaml", time)
    assert automatic(file) is Automatic.VERDICT
    (tmp_path / "..data_tmp").symlink_to("..two")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
    time.seconds += 100
    assert automatic(file) is Automatic.NEVER


def test_two_writes_within_one_tick_of_the_file_system_are_both_seen(
    tmp_path: Path, time: Time
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ALONE, encoding="utf-8")
    tick = path.stat()
    file = PolicyFile(path, time)
    assert automatic(file) is Automatic.VERDICT
    same_size = ALONE.replace("verdict", "never  ")
    with path.open("r+", encoding="utf-8") as handle:
        handle.write(same_size)
    os.utime(path, ns=(tick.st_atime_ns, tick.st_mtime_ns))
    time.seconds += 1
    assert automatic(file) is Automatic.NEVER


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, time: Time) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ALONE, encoding="utf-8")
    file = PolicyFile(path, time)
    first = file.current
    time.seconds += 100
    assert file.current is first


def test_a_touched_file_is_the_same_policy(tmp_path: Path, time: Time) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ALONE, encoding="utf-8")
    file = PolicyFile(path, time)
    first = file.current
    os.utime(path, (1, 1))
    time.seconds += 100
    assert file.current is first


def test_a_pipe_or_a_folder_in_the_files_place_is_a_problem_and_blocks_nothing(
    tmp_path: Path, time: Time
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        problem = PolicyFile(path, time).problem
        assert problem is not None and "cannot be read" in problem.says[0]
        assert problem.version == ""


def test_a_huge_file_is_refused_without_being_read_whole(tmp_path: Path, time: Time) -> None:
    path = tmp_path / "policy.yaml"
    with path.open("wb") as handle:
        handle.truncate(10**9)
    problem = PolicyFile(path, time).problem
    assert problem is not None and "more than 262,144" in problem.headline


def test_a_refused_version_is_logged_once_and_so_is_the_one_that_comes_into_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = Time(), tmp_path / "policy.yaml"
    caplog.set_level("INFO", logger="mcp_devops.response_policy.file")
    path.write_text("version: 1\n", encoding="utf-8")
    watched = PolicyFile(path, clock)
    for text in ("version: 1\n", "version: 2\n", "version: 2\n"):
        path.write_text(text, encoding="utf-8")
        clock.seconds += 2
        assert watched.current.document.version == 1
    said = [record.message for record in caplog.records]
    assert len(said) == 2 and "is in force" in said[0] and f"{path}:1:1: version" in said[1]
