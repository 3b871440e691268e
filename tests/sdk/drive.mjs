// Drives an MCP server with one of the official TypeScript SDKs: connects, lists the tools, makes calls, and
// prints what came of it as one line of JSON.
//
//   node drive.mjs v1|v2 <packages folder> < plan.json
//
// The plan is that of drive.py. `v1` is @modelcontextprotocol/sdk (revisions before 2026-07-28), `v2` is
// @modelcontextprotocol/client; there `"mode": "auto"` also negotiates 2026-07-28.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [major, packages] = process.argv.slice(2);
// The packages live in a cache folder, not beside this file.
const require = createRequire(`${packages}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const sdk = '@modelcontextprotocol/sdk/client';
const modules =
  major === 'v1'
    ? [`${sdk}/index.js`, `${sdk}/stdio.js`, `${sdk}/streamableHttp.js`, `${sdk}/auth-extensions.js`]
    : ['@modelcontextprotocol/client', '@modelcontextprotocol/client/stdio'];
const { Client, StdioClientTransport, StreamableHTTPClientTransport, PrivateKeyJwtProvider } = Object.assign(
  {},
  ...(await Promise.all(modules.map(load))),
);

const plan = JSON.parse(readFileSync(0, 'utf8'));

function transport() {
  if (plan.stdio) {
    const [command, ...args] = plan.stdio;
    return new StdioClientTransport({ command, args, env: plan.env, stderr: 'inherit' });
  }
  const authProvider = new PrivateKeyJwtProvider({
    clientId: plan.client,
    privateKey: readFileSync(plan.key, 'utf8'),
    algorithm: 'ES256',
    expectedIssuer: plan.issuer,
  });
  return new StreamableHTTPClientTransport(new URL(plan.url), { authProvider });
}

async function call(client, name, args) {
  try {
    const result = await client.callTool({ name, arguments: args });
    const text = result.content.map((part) => part.text ?? '').join('');
    return { text, is_error: Boolean(result.isError) };
  } catch (error) {
    return { error: { code: error.code, message: error.message, data: error.data } };
  }
}

const options = major === 'v2' ? { versionNegotiation: { mode: plan.mode ?? 'auto' } } : {};
const client = new Client({ name: 'sallyport-test', version: '1' }, options);
const connection = transport();
await client.connect(connection);
const tools = await client.listTools();
const calls = [];
for (const [name, args] of plan.calls) calls.push(await call(client, name, args));
const revision = client.getNegotiatedProtocolVersion?.() ?? connection.protocolVersion ?? null;
console.log(JSON.stringify({ revision, tools: tools.tools.map((tool) => tool.name).sort(), calls }));
await client.close();
