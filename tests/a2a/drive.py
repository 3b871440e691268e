"""Drives an agent with the official SDK (1.3), and prints what came of it as one line of JSON.

The plan comes as JSON on standard input:
  {"url": ..., "token": ..., "binding": "JSONRPC" or "HTTP+JSON", "version": "1.0" or "0.3",
   "stream": true, "messages": [{"text": ..., "skill": ..., "data": {...}, "url": ..., "go_on": true,
   "task": ..., "context": ..., "push": {...}}], "get": [task], "cancel": [task], "list": true, "jwks": url,
   "webhooks": [["set" or "get" or "list" or "delete", {...}]], "then": [further messages]}
Webhooks are those of the task that the last message was about.
"""

import asyncio
import json
import sys
from uuid import uuid4

import httpx
from google.protobuf.json_format import MessageToDict, ParseDict
from jwt import PyJWK
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SendMessageRequest,
    TaskPushNotificationConfig,
)
from a2a.utils.signing import create_signature_verifier


def outcome(error):
    data = getattr(error, "data", None)
    return {"error": type(error).__name__, "message": str(error), "data": data}


async def attempt(awaitable):
    try:
        answer = await awaitable
        return MessageToDict(answer) if answer is not None else {}
    except Exception as error:  # noqa: BLE001
        return outcome(error)


def request_of(said, last):
    parts = []
    if "text" in said:
        parts.append({"text": said["text"]})
    if "data" in said:
        parts.append({"data": said["data"]})
    if "url" in said:
        parts.append({"url": said["url"]})
    message = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": parts}
    if "skill" in said:
        message["metadata"] = {"sallyport.skill": said["skill"]}
    if said.get("go_on"):
        message["taskId"], message["contextId"] = last
    if "task" in said:
        message["taskId"] = said["task"]
    if "context" in said:
        message["contextId"] = said["context"]
    body = {"message": message}
    if "push" in said:
        body["configuration"] = {"taskPushNotificationConfig": said["push"]}
    return ParseDict(body, SendMessageRequest())


async def main():
    plan = json.load(sys.stdin)
    headers = {"Authorization": f"Bearer {plan['token']}"}
    seen = {"messages": []}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        verifier = None
        if "jwks" in plan:
            keys = {key["kid"]: key for key in (await http.get(plan["jwks"])).json()["keys"]}

            def key_of(kid, jku):
                assert jku == plan["jwks"], jku
                return PyJWK(keys[kid])

            verifier = create_signature_verifier(key_of, ["ES256"])
        card = await A2ACardResolver(http, plan["url"]).get_agent_card(signature_verifier=verifier)
        seen["card"] = MessageToDict(card)
        binding, version = plan.get("binding", "JSONRPC"), plan.get("version", "1.0")
        kept = [i for i in card.supported_interfaces if (i.protocol_binding, i.protocol_version) == (binding, version)]
        assert kept, seen["card"]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        if version == "0.3":
            http.headers["A2A-Version"] = "0.3"
        config = ClientConfig(
            httpx_client=http, supported_protocol_bindings=[binding], streaming=plan.get("stream", False)
        )
        client = ClientFactory(config).create(card)
        last = (None, None)

        async def send(messages):
            nonlocal last
            for said in messages:
                events = []
                try:
                    async for event in client.send_message(request_of(said, last)):
                        event = MessageToDict(event)
                        events.append(event)
                        print(json.dumps(event), file=sys.stderr, flush=True)
                        task = event.get("task", {})
                        if task:
                            last = (task["id"], task.get("contextId"))
                except Exception as error:  # noqa: BLE001
                    events.append(outcome(error))
                seen["messages"].append(events)

        await send(plan.get("messages", []))
        webhooks = {
            "set": (client.create_task_push_notification_config, TaskPushNotificationConfig),
            "get": (client.get_task_push_notification_config, GetTaskPushNotificationConfigRequest),
            "list": (client.list_task_push_notification_configs, ListTaskPushNotificationConfigsRequest),
            "delete": (client.delete_task_push_notification_config, DeleteTaskPushNotificationConfigRequest),
        }
        seen["webhooks"] = []
        for what, about in plan.get("webhooks", []):
            call, kind = webhooks[what]
            seen["webhooks"].append(await attempt(call(ParseDict({"taskId": last[0], **about}, kind()))))
        await send(plan.get("then", []))
        seen["get"] = [await attempt(client.get_task(GetTaskRequest(id=task))) for task in plan.get("get", [])]
        if plan.get("get_last"):
            seen["last"] = await attempt(client.get_task(GetTaskRequest(id=last[0])))
        seen["cancel"] = [
            await attempt(client.cancel_task(CancelTaskRequest(id=task))) for task in plan.get("cancel", [])
        ]
        if plan.get("list"):
            seen["list"] = await attempt(client.list_tasks(ListTasksRequest()))
        if plan.get("extended"):
            card = await client.get_extended_agent_card(
                __import__("a2a.types", fromlist=["x"]).GetExtendedAgentCardRequest(), signature_verifier=verifier
            )
            seen["extended"] = MessageToDict(card)
    print(json.dumps(seen))


asyncio.run(main())
