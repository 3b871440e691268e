// Sends requests with an HTTP client of Node as it is: what it knows of a proxy, it has from its environment.
//
// Reads a plan from standard input, {"client": "fetch" | "undici", "requests": [{"method", "url", "json"}]}, and
// prints what came of each: {"status", "body"}, or {"error"}. "fetch" is Node's own, with NODE_USE_ENV_PROXY;
// "undici" the package with its EnvHttpProxyAgent. The first argument is the folder with the packages.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const plan = JSON.parse(readFileSync(0, "utf8"));
let fetch = globalThis.fetch;
if (plan.client === "undici") {
  const undici = createRequire(`${process.argv[2]}/`)("undici");
  undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent());
  fetch = undici.fetch;
}

function reasons(error) {
  const all = [];
  for (let at = error; at; at = at.cause) all.push(`${at.name}: ${at.message}`);
  return all.join(" <- ");
}

const results = [];
for (const step of plan.requests) {
  try {
    const init = { method: step.method ?? "GET", redirect: "manual" };
    if (step.json !== undefined) {
      init.body = JSON.stringify(step.json);
      init.headers = { "content-type": "application/json" };
    }
    const answer = await fetch(step.url, init);
    results.push({ status: answer.status, body: await answer.text() });
  } catch (error) {
    results.push({ error: reasons(error) });
  }
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
