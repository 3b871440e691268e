// node-postgres as it is, through the gateway: `drive.mjs HOME HOST PORT TOKEN`. Fails where it would.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

const [home, host, port, password] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const pg = require("pg");
const copy = require("pg-copy-streams");
const Cursor = require("pg-cursor");
const server = { host, port: Number(port), user: "agent", password, database: "crm" };

const client = new pg.Client(server);
await client.connect();
const one = await client.query("SELECT id, region FROM customers WHERE id = $1", [4]);
assert.deepEqual(one.rows, [{ id: 4, region: "eu" }]);
const both = await client.query("SELECT 1 AS a; SELECT 2 AS b");
assert.deepEqual(both.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]]);

await client.query("BEGIN");
for (let n = 0; n < 50; n++) {
  const text = "INSERT INTO orders (customer, total) VALUES ($1, $2) RETURNING customer";
  const made = await client.query({ name: "insert", text, values: [n, n] });
  assert.equal(made.rows[0].customer, n);
}
await assert.rejects(client.query("SELECT secret FROM customers"), (error) => {
  assert.equal(error.code, "42501");
  assert.match(error.detail, /decision dec_/);
  return true;
});
await assert.rejects(client.query("SELECT 1"), { code: "25P02" });
await client.query("ROLLBACK");

const into = client.query(copy.from("COPY orders (customer, total) FROM STDIN"));
await pipeline(Readable.from(Array.from({ length: 2000 }, (_, n) => `${n}\t${n}\n`)), into);
let lines = 0;
for await (const chunk of client.query(copy.to("COPY (SELECT id FROM orders) TO STDOUT"))) {
  lines += chunk.toString().split("\n").length - 1;
}
assert.equal(lines, 2000);

const cursor = client.query(new Cursor("SELECT id FROM orders ORDER BY id"));
assert.equal((await cursor.read(100)).length, 100);
await cursor.close();

// Several at once on one connection wait for each other in the driver.
const counts = await Promise.all([2, 3, 4].map((id) => client.query("SELECT name FROM customers WHERE id = $1", [id])));
assert.deepEqual(counts.map((result) => result.rowCount), [1, 0, 1]);
await client.query("DELETE FROM orders");
await client.end();

const pool = new pg.Pool({ ...server, max: 4 });
const all = await Promise.all(Array.from({ length: 20 }, () => pool.query("SELECT count(*)::int AS n FROM customers")));
assert.ok(all.every((result) => result.rows[0].n === 50));
await pool.end();
console.log("done");
