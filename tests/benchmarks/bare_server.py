"""The floor: a server with one tool and nothing but the `mcp` package."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp import types as t
from mcp.server import Server
from mcp.server.stdio import stdio_server

PING = t.Tool(name="ping", description="Answer.", input_schema={"type": "object"})


async def list_tools(context: Any, params: Any) -> t.ListToolsResult:
    return t.ListToolsResult(tools=[PING])


async def call_tool(context: Any, params: Any) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text="pong")])


async def main() -> None:
    server: Server[Any] = Server(
        "bare", version="1", on_list_tools=list_tools, on_call_tool=call_tool
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
