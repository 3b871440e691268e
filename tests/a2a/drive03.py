"""Drives an agent with the official SDK of 0.3, and prints what came of it as one line of JSON. The plan
is that of `drive.py`, as far as it is about messages."""

import asyncio
import json
import sys
from uuid import uuid4

import httpx
from jwt import PyJWK
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import Message
from a2a.utils.signing import create_signature_verifier


async def main():
    plan = json.load(sys.stdin)
    headers = {"Authorization": f"Bearer {plan['token']}"}
    seen = {"messages": []}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        keys = {key["kid"]: key for key in (await http.get(plan["jwks"])).json()["keys"]}
        verifier = create_signature_verifier(lambda kid, jku: PyJWK(keys[kid]), ["ES256"])
        card = await A2ACardResolver(http, plan["url"]).get_agent_card(signature_verifier=verifier)
        seen["card"] = card.model_dump(mode="json", exclude_none=True)
        client = ClientFactory(ClientConfig(httpx_client=http, streaming=plan.get("stream", False))).create(card)
        for said in plan["messages"]:
            message = Message.model_validate({
                "kind": "message", "messageId": str(uuid4()), "role": "user",
                "parts": [{"kind": "text", "text": said["text"]}],
                "metadata": {"skillId": said["skill"]},
            })
            events = []
            try:
                async for event in client.send_message(message):
                    task = event[0] if isinstance(event, tuple) else event
                    events.append(task.model_dump(mode="json", exclude_none=True))
            except Exception as error:  # noqa: BLE001
                events.append({"error": type(error).__name__, "message": str(error)})
            seen["messages"].append(events)
    print(json.dumps(seen))


asyncio.run(main())
