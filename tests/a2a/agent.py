"""An agent made with the official SDK (1.3): JSON-RPC of 1.0 and 0.3, and HTTP+JSON of 1.0, on one port.

Usage: agent.py PORT
What webhooks it was given is at /webhooks.
It answers with what it was told: its text says the skill that it was asked for, and the artifact holds
the metadata and the headers that arrived. Text that begins with "ask" leaves the task open, "slow" makes
an artifact every 100 ms until it is cancelled.
"""

import asyncio
import json
import sys

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from google.protobuf.json_format import MessageToDict
from a2a.helpers.proto_helpers import get_message_text, new_task_from_user_message, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentProvider, AgentSkill, Part


class Echo(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task = context.current_task or new_task_from_user_message(context.message)
        if not context.current_task:
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        metadata = MessageToDict(context.message).get("metadata", {})
        headers = context.call_context.state.get("headers", {}) if context.call_context else {}
        text = get_message_text(context.message)
        said = {"metadata": metadata, "headers": dict(headers), "text": text}
        await updater.start_work()
        if text.startswith("slow"):
            for count in range(600):
                await updater.add_artifact([Part(text=f"piece {count}")], artifact_id=f"a{count}")
                await asyncio.sleep(0.1)
        await updater.add_artifact([Part(text=json.dumps(said))], name="said")
        answer = new_text_message(f"did {metadata.get('sallyport.skill')}", task_id=task.id, context_id=task.context_id)
        if text.startswith("ask"):
            await updater.requires_input(answer)
        else:
            await updater.complete(answer)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.cancel()


def skill(name):
    return AgentSkill(id=name, name=name.title(), description=f"Does {name}", tags=["test"], examples=["größer"])


def main():
    port = int(sys.argv[1])
    url = f"http://127.0.0.1:{port}"
    card = AgentCard(
        name="Desk ©",
        description="Helps people",
        version="1.0.0",
        provider=AgentProvider(organization="Example", url="https://example.org"),
        capabilities=AgentCapabilities(streaming=True, push_notifications=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[skill("refund"), skill("lookup"), skill("delete")],
        supported_interfaces=[
            AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version="0.3"),
            AgentInterface(url=f"{url}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
            AgentInterface(url=f"127.0.0.1:{port}", protocol_binding="GRPC", protocol_version="1.0"),
        ],
    )
    pushes = InMemoryPushNotificationConfigStore()
    handler = DefaultRequestHandler(
        agent_executor=Echo(),
        task_store=InMemoryTaskStore(),
        agent_card=card,
        push_config_store=pushes,
        push_sender=BasePushNotificationSender(httpx.AsyncClient(), pushes),
    )

    async def webhooks(_):
        owners = pushes._push_notification_infos.values()
        return JSONResponse([MessageToDict(c) for tasks in owners for configs in tasks.values() for c in configs])

    routes = [
        Route("/webhooks", webhooks),
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, rpc_url="/rpc", enable_v0_3_compat=True),
        *create_rest_routes(handler, path_prefix="/rest"),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")


main()
