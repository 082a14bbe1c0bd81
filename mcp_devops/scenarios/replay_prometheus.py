"""A Prometheus that answers from recorded samples, up to the scenario's present."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_devops.scenarios.packing import Samples
from mcp_devops.scenarios.promql import BadQuery, compile_query, parse_selector
from mcp_devops.scenarios.world import World

MAX_POINTS = 11_000
"""Points a range query may give, as Prometheus has it."""

Form = Mapping[str, list[str]]


def prometheus_app(world: World) -> Starlette:
    """The query API over a world's tape."""

    async def query(request: Request) -> Response:
        return await _answered(request, lambda form: _instant(world, form))

    async def query_range(request: Request) -> Response:
        return await _answered(request, lambda form: _range(world, form))

    async def series(request: Request) -> Response:
        return await _answered(request, lambda form: _series(world, form))

    async def healthy(request: Request) -> Response:
        return JSONResponse("Prometheus (recorded) is Healthy.")

    both = ["GET", "POST"]
    return Starlette(
        routes=[
            Route("/api/v1/query", query, methods=both),
            Route("/api/v1/query_range", query_range, methods=both),
            Route("/api/v1/series", series, methods=both),
            Route("/-/healthy", healthy),
        ]
    )


async def _answered(request: Request, work: Any) -> Response:
    form = parse_qs((await request.body()).decode() or request.url.query)
    try:
        return JSONResponse({"status": "success", "data": work(form)})
    except BadQuery as bad:
        said = f"the recording cannot answer this: {bad}"
    except (KeyError, ValueError) as missing:
        said = f"invalid parameter: {missing}"
    return JSONResponse({"status": "error", "errorType": "bad_data", "error": said}, 400)


def _instant(world: World, form: Form) -> Any:
    now = world.now()
    at = _moment(form["time"][0]) if "time" in form else now
    run = compile_query(form["query"][0])
    value = run(world.tape.until(now), at)
    if isinstance(value, float):
        return {"resultType": "scalar", "result": [at, _text(value)]}
    found = [{"metric": labels, "value": [at, _text(v)]} for labels, v in value]
    return {"resultType": "vector", "result": found}


def _range(world: World, form: Form) -> Any:
    start, end = _moment(form["start"][0]), _moment(form["end"][0])
    step = _step(form["step"][0])
    if step <= 0 or end < start or (end - start) / step > MAX_POINTS:
        raise BadQuery("start, end and step give no range, or one of too many points")
    run = compile_query(form["query"][0])
    samples = world.tape.until(world.now())
    rows: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
    for i in range(int((end - start) / step + 1e-9) + 1):
        at = round(start + i * step, 3)
        value = run(samples, at)
        for labels, v in [({}, value)] if isinstance(value, float) else value:
            rows.setdefault(tuple(sorted(labels.items())), []).append([at, _text(v)])
    found = [{"metric": dict(labels), "values": values} for labels, values in rows.items()]
    return {"resultType": "matrix", "result": found}


def _series(world: World, form: Form) -> Any:
    selectors = [parse_selector(text) for text in form["match[]"]]
    now = world.now()
    start = _moment(form["start"][0]) if "start" in form else now - 3600
    end = _moment(form["end"][0]) if "end" in form else now
    found: Sequence[Samples] = world.tape.until(now)
    return [
        dict(one.labels)
        for one in found
        if any(s.fits(one.labels) for s in selectors)
        and one.times[0] <= end
        and one.times[-1] >= start
    ][: int(form.get("limit", ["0"])[0]) or None]


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()


def _step(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    return float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)


def _text(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
