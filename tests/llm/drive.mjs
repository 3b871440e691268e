// Drives the official TypeScript clients of providers of models by a plan, as drive.py does.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

const require = createRequire(`${process.argv[2]}/package.json`);
const OpenAI = require('openai').default ?? require('openai');
const Anthropic = require('@anthropic-ai/sdk').default ?? require('@anthropic-ai/sdk');

const plan = JSON.parse(await text(process.stdin));
const messages = [{ role: 'user', content: 'Say hello.' }];

async function raised(call) {
  try {
    await call();
  } catch (error) {
    const body = error.error ?? {};
    return { type: error.constructor.name, status: error.status, error: body.error ?? body };
  }
  return null;
}

async function withOpenAI() {
  const client = new OpenAI({ baseURL: plan.openai.url, apiKey: plan.openai.key });
  const ask = { model: plan.model, messages, max_tokens: 12 };
  const answer = await client.chat.completions.create(ask);
  let stream = '';
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    stream += chunk.choices[0]?.delta?.content ?? '';
  }
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  const stranger = new OpenAI({ baseURL: plan.openai.url, apiKey: 'sk-nobody' });
  return {
    chat: answer.choices[0].message.content,
    tokens: answer.usage.total_tokens,
    stream,
    models,
    denied: await raised(() => client.chat.completions.create({ ...ask, model: plan.denied })),
    stranger: await raised(() => stranger.chat.completions.create(ask)),
  };
}

async function withAnthropic() {
  const client = new Anthropic({ baseURL: plan.anthropic.url, apiKey: plan.anthropic.key });
  const ask = { model: plan.model, messages, max_tokens: 12 };
  const answer = await client.messages.create(ask);
  let stream = '';
  for await (const event of await client.messages.create({ ...ask, stream: true })) {
    if (event.type === 'content_block_delta') stream += event.delta.text;
  }
  const helper = client.messages.stream(ask);
  const final = await helper.finalMessage();
  const stranger = new Anthropic({ baseURL: plan.anthropic.url, apiKey: 'sk-nobody' });
  return {
    message: answer.content[0].text,
    tokens: answer.usage.input_tokens + answer.usage.output_tokens,
    stream,
    helper: final.content[0].text,
    denied: await raised(() => client.messages.create({ ...ask, model: plan.denied })),
    stranger: await raised(() => stranger.messages.create(ask)),
  };
}

async function withEmbeddings() {
  const client = new OpenAI({ baseURL: plan.embeddings.url, apiKey: plan.embeddings.key });
  const ask = { model: plan.model, input: ['a cat on a mat', 'the price of copper'] };
  const answer = await client.embeddings.create(ask);
  return {
    vectors: answer.data.length,
    dimensions: answer.data[0].embedding.length,
    tokens: answer.usage.prompt_tokens,
    denied: await raised(() => client.embeddings.create({ ...ask, model: plan.denied })),
  };
}

const clients = { openai: withOpenAI, anthropic: withAnthropic, embeddings: withEmbeddings };
const seen = {};
for (const name of plan.clients) seen[name] = await clients[name]();
console.log(JSON.stringify(seen));
