from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_devops.integrations.docker.frames import Demultiplexer, Stream
from tests.support.docker_engine import frame

# A loaded machine may stall in any draw; how fast inputs are made is not what is tested here.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FRAMES = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=8)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({min(c, len(raw)) for c in cuts} | {0, len(raw)})
    return [raw[a:b] for a, b in pairwise(at)]


def demultiplexed(chunks: list[bytes]) -> tuple[list[tuple[int, bytes]], Demultiplexer]:
    reader = Demultiplexer()
    return [found for chunk in chunks for found in reader.feed(chunk)], reader


@CALM
@given(FRAMES, st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    raw = b"".join(frame(s, p) for s, p in frames)
    found, reader = demultiplexed(pieces(raw, cuts))
    assert found == frames and not reader.broken and not reader.cut and reader.rest() is None


@CALM
@given(FRAMES, st.integers(0, 400))
def test_a_log_cut_anywhere_keeps_what_came_before(
    frames: list[tuple[int, bytes]], end: int
) -> None:
    raw = b"".join(frame(s, p) for s, p in frames)[:end]
    found, reader = demultiplexed([raw])
    assert found == frames[: len(found)] and not reader.broken
    if rest := reader.rest():
        stream, payload = frames[len(found)]
        assert rest[0] == stream and payload.startswith(rest[1]) and reader.cut


@CALM
@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_failure(raw: bytes) -> None:
    _, reader = demultiplexed([raw])
    reader.rest()
    stream = Stream(keep_bytes=50)
    stream.add(raw)
    assert sum(len(line.text) for line in stream.lines()) <= 50


def test_what_is_no_frame_ends_the_reading_and_is_said() -> None:
    found, reader = demultiplexed([frame(1, b"good\n") + b"HTTP/1.1 500 oops"])
    assert found == [(1, b"good\n")] and reader.broken and reader.rest() is None
    assert list(reader.feed(frame(1, b"more"))) == []


def test_parts_of_a_long_line_are_joined_and_their_times_taken_out() -> None:
    stream = Stream(1000)
    stream.add(b"2026-11-20T14:13:06.880114987Z begin ")
    stream.add(b"2026-11-20T14:13:06.880114988Z end\n")
    stream.add(b"2026-11-20T14:13:07Z 2026-11-20T14:13:07Z next\r\n")
    first, second = stream.lines()
    assert (first.text, second.text) == ("begin end", "2026-11-20T14:13:07Z next")
    assert first.at is not None and first.at.microsecond == 880114


def test_a_line_that_lost_its_beginning_is_left_out_and_the_bytes_are_counted() -> None:
    stream = Stream(keep_bytes=20)
    stream.add(b"PASSWORD=hunter2-hunter2\nnewest line\n")
    assert [line.text for line in stream.lines()] == ["newest line"]
    assert stream.cut_bytes == 17


def test_a_time_that_does_not_exist_is_no_time() -> None:
    stream = Stream(1000)
    stream.add(b"2026-13-40T14:13:06Z text")
    assert stream.lines()[0].at is None
