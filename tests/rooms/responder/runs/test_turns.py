"""Trouble goes before calm where only so many may look at once."""

from __future__ import annotations

import asyncio

from mcp_devops.responder.runs.turns import Turns


class Line:
    """Who waits for a turn, and the order in which turns were given."""

    def __init__(self, at_once: int = 1) -> None:
        self.turns = Turns(at_once)
        self.went: list[str] = []
        self.urgent: set[str] = set()
        self.leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def stand(self, *names: str) -> None:
        for name in names:
            self.leave[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._turn(name))
            await asyncio.sleep(0)

    async def _turn(self, name: str) -> None:
        async with self.turns.turn(lambda: name in self.urgent):
            self.went.append(name)
            await self.leave[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self.leave[name].set()
            await self.tasks[name]
            await asyncio.sleep(0)


async def test_those_in_trouble_go_before_those_who_came_earlier() -> None:
    line = Line()
    line.urgent = {"sick"}
    await line.stand("first", "calm", "also calm", "sick")
    await line.end("first", "sick", "calm", "also calm")
    assert line.went == ["first", "sick", "calm", "also calm"]


async def test_trouble_that_begins_while_waiting_counts() -> None:
    line = Line()
    await line.stand("first", "calm", "turns sick")
    line.urgent.add("turns sick")
    await line.end("first", "turns sick", "calm")
    assert line.went == ["first", "turns sick", "calm"]


async def test_so_many_go_at_once_and_no_more() -> None:
    line = Line(at_once=2)
    await line.stand("a", "b", "c")
    assert line.went == ["a", "b"]
    await line.end("a", "b", "c")
    await line.stand("d", "e")
    assert line.went == ["a", "b", "c", "d", "e"]
    await line.end("d", "e")


async def test_who_gives_up_waiting_costs_no_turn() -> None:
    line = Line()
    await line.stand("first", "gives up", "last")
    line.tasks["gives up"].cancel()
    await asyncio.gather(line.tasks["gives up"], return_exceptions=True)
    await line.end("first", "last")
    assert line.went == ["first", "last"]


async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_it_on() -> None:
    line = Line()
    async with line.turns.turn(lambda: False):
        await line.stand("cancelled", "last")
    # The turn was given, and its task has not gone on yet.
    line.tasks["cancelled"].cancel()
    await asyncio.gather(line.tasks["cancelled"], return_exceptions=True)
    await line.end("last")
    assert line.went == ["last"]
