"""Drives an MCP server with the official Python SDK: connects, lists the tools, makes calls, and prints
what came of it as one line of JSON.

The plan comes as JSON on standard input:
  {"stdio": [program, argument, ...]}, {"url": ...},
  or {"url": ..., "client": ..., "issuer": ..., "key": PEM file} for a server that demands a token,
  "mode": "legacy" or "auto", "calls": [[tool, arguments], ...]
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError


class Memory:
    """Keeps tokens for as long as the process lives."""

    def __init__(self):
        self.tokens = None
        self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def open_server(plan, stack):
    if "stdio" in plan:
        program, *arguments = plan["stdio"]
        return StdioServerParameters(command=program, args=arguments, env=plan.get("env"))
    if "client" not in plan:
        return streamable_http_client(plan["url"])
    signer = SignedJWTParameters(
        issuer=plan["client"],
        subject=plan["client"],
        signing_key=Path(plan["key"]).read_text(),
        signing_algorithm="ES256",
    )
    provider = PrivateKeyJWTOAuthProvider(
        server_url=plan["url"],
        storage=Memory(),
        client_id=plan["client"],
        assertion_provider=signer.create_assertion_provider(),
        issuer=plan["issuer"],
    )
    http = await stack.enter_async_context(httpx2.AsyncClient(auth=provider, timeout=30))
    return streamable_http_client(plan["url"], http_client=http)


async def call(client, tool, arguments):
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as error:
        return {"error": {"code": error.error.code, "message": error.error.message, "data": error.error.data}}
    text = "".join(getattr(part, "text", "") for part in result.content)
    return {"text": text, "is_error": bool(result.is_error)}


async def main():
    plan = json.load(sys.stdin)
    async with AsyncExitStack() as stack:
        server = await open_server(plan, stack)
        client = await stack.enter_async_context(Client(server, mode=plan.get("mode", "auto"), read_timeout_seconds=30))
        tools = await client.list_tools()
        seen = {
            "revision": client.protocol_version,
            "tools": sorted(tool.name for tool in tools.tools),
            "calls": [await call(client, tool, arguments) for tool, arguments in plan["calls"]],
        }
        print(json.dumps(seen), flush=True)


asyncio.run(main())
