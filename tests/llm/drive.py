"""Drives the official Python clients of providers of models by a plan, and prints what they saw.

The plan: the base URLs of an OpenAI-like and an Anthropic-like provider, a key for each, a model that
may be used and one that may not. No client knows of the gateway: only base URL and key are set.
"""

import asyncio
import json
import os
import sys

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
os.environ["LANGSMITH_TRACING"] = "false"

import anthropic
import openai

plan = json.load(sys.stdin)
MODEL, DENIED = plan["model"], plan["denied"]
QUESTION = [{"role": "user", "content": "Say hello."}]


def raised(call):
    """What a call raises: the SDK's exception, its status and the error in it."""
    try:
        call()
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        body = error.body or {}
        return {
            "type": type(error).__name__,
            "status": error.status_code,
            "error": body.get("error", body),
        }
    return None


def with_openai():
    client = openai.OpenAI(base_url=plan["openai"]["url"], api_key=plan["openai"]["key"])
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12)
    text, usage = "", None
    for chunk in client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=12, stream=True
    ):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    response = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=12)
    events = [
        event.type
        for event in client.responses.create(
            model=MODEL, input="Say hello.", max_output_tokens=12, stream=True
        )
    ]
    completion = client.completions.create(model=MODEL, prompt="Once", max_tokens=4)
    stranger = openai.OpenAI(base_url=plan["openai"]["url"], api_key="sk-nobody")
    return {
        "chat": answer.choices[0].message.content,
        "tokens": answer.usage.total_tokens,
        "stream": text,
        "stream_tokens": usage and usage.total_tokens,
        "response": response.output_text,
        "response_events": [events[0], events[-1]],
        "completion": completion.choices[0].text,
        "models": [model.id for model in client.models.list()],
        "denied": raised(
            lambda: client.chat.completions.create(model=DENIED, messages=QUESTION)
        ),
        "stranger": raised(
            lambda: stranger.chat.completions.create(model=MODEL, messages=QUESTION)
        ),
    }


def with_anthropic():
    client = anthropic.Anthropic(
        base_url=plan["anthropic"]["url"], api_key=plan["anthropic"]["key"]
    )
    answer = client.messages.create(model=MODEL, max_tokens=12, messages=QUESTION)
    text = ""
    for event in client.messages.create(
        model=MODEL, max_tokens=12, messages=QUESTION, stream=True
    ):
        if event.type == "content_block_delta":
            text += event.delta.text
    with client.messages.stream(model=MODEL, max_tokens=12, messages=QUESTION) as stream:
        helper = "".join(stream.text_stream)
        final = stream.get_final_message()
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION)
    stranger = anthropic.Anthropic(base_url=plan["anthropic"]["url"], api_key="sk-nobody")
    return {
        "message": answer.content[0].text,
        "tokens": answer.usage.input_tokens + answer.usage.output_tokens,
        "stream": text,
        "helper": helper,
        "helper_final": final.content[0].text,
        "helper_tokens": final.usage.output_tokens,
        "counted": counted.input_tokens,
        "models": [model.id for model in client.models.list()],
        "denied": raised(
            lambda: client.messages.create(model=DENIED, max_tokens=12, messages=QUESTION)
        ),
        "stranger": raised(
            lambda: stranger.messages.create(model=MODEL, max_tokens=12, messages=QUESTION)
        ),
    }


def with_embeddings():
    client = openai.OpenAI(
        base_url=plan["embeddings"]["url"], api_key=plan["embeddings"]["key"]
    )
    texts = ["a cat on a mat", "a kitten on a rug", "the price of copper"]
    # As numbers, and in base64, which is what the SDK asks for by itself.
    plain = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    packed = client.embeddings.create(model=MODEL, input=texts[0])
    vectors = [entry.embedding for entry in plain.data]
    apart = max(abs(a - b) for a, b in zip(vectors[0], packed.data[0].embedding))
    return {
        "vectors": len(vectors),
        "dimensions": len(vectors[0]),
        "apart": apart,
        "tokens": plain.usage.prompt_tokens,
        "denied": raised(lambda: client.embeddings.create(model=DENIED, input=texts)),
    }


def with_agents():
    import agents

    client = openai.AsyncOpenAI(base_url=plan["openai"]["url"], api_key=plan["openai"]["key"])

    @agents.function_tool
    def weather(city: str) -> str:
        """Tells the weather in a city."""
        return "sunny"

    async def run(kind):
        agent = agents.Agent(
            name="Greeter",
            instructions="Greet.",
            tools=[weather],
            model=kind(model=MODEL, openai_client=client),
            model_settings=agents.ModelSettings(max_tokens=12, tool_choice="none"),
        )
        result = await agents.Runner.run(agent, "Say hello.")
        return result.final_output

    async def both():
        chat = await run(agents.OpenAIChatCompletionsModel)
        return {"chat": chat, "responses": await run(agents.OpenAIResponsesModel)}

    return asyncio.run(both())


def with_langgraph():
    from langchain_openai import ChatOpenAI
    from langgraph.graph import END, START, MessagesState, StateGraph

    model = ChatOpenAI(
        base_url=plan["openai"]["url"],
        api_key=plan["openai"]["key"],
        model=MODEL,
        max_tokens=12,
    )
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    graph = graph.compile()
    whole = graph.invoke({"messages": QUESTION})["messages"][-1].content
    parts = graph.stream({"messages": QUESTION}, stream_mode="messages")
    return {"whole": whole, "stream": "".join(part.content for part, _ in parts)}


CLIENTS = {
    "openai": with_openai,
    "anthropic": with_anthropic,
    "embeddings": with_embeddings,
    "agents": with_agents,
    "langgraph": with_langgraph,
}
print(json.dumps({name: CLIENTS[name]() for name in plan["clients"]}))
