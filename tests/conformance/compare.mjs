// Reads what the conformance suite saved, compares the runs directly and through the gateway check
// by check, and prints a table and every difference. Ends with 0 only if the numbers of checks are
// those that are expected, all of them passed, and both ways saw the same.
//
//   node compare.mjs FOLDER [--direct]
//
// FOLDER holds `direct` and `through`, each with one folder a revision.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const [folder, only] = process.argv.slice(2);
const expected = JSON.parse(readFileSync(new URL('expected.json', import.meta.url)));
const ways = only === '--direct' ? ['direct'] : ['direct', 'through'];

// The suite logs requests and responses as checks without a verdict.
const judged = (check) => check.status !== 'INFO';

/** Every judged check of one run, by scenario and id; an id can come more than once. */
function read(way, revision) {
  const place = join(folder, way, revision);
  const checks = new Map();
  for (const scenario of existsSync(place) ? readdirSync(place) : []) {
    const file = join(place, scenario, 'checks.json');
    if (!existsSync(file)) continue;
    // server-<scenario>-<time>
    const name = scenario.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '');
    for (const check of JSON.parse(readFileSync(file)).filter(judged)) {
      const key = `${name}: ${check.id}`;
      checks.set(key, [...(checks.get(key) ?? []), check]);
    }
  }
  return checks;
}

const count = (checks, status) =>
  [...checks.values()].flat().filter((check) => status.includes(check.status)).length;

const verdict = (checks = []) =>
  checks.length === 0 ? 'not run' : checks.map((check) => check.status).sort().join(' ');

const details = (checks = []) =>
  checks
    .filter((check) => check.status !== 'SUCCESS')
    .map((check) => {
      const more = check.details === undefined ? '' : ` ${JSON.stringify(check.details)}`;
      return `      ${check.errorMessage ?? check.description}${more}`.slice(0, 1200);
    });

const rows = [['revision', 'expected', ...ways]];
const complaints = [];
for (const [revision, wanted] of Object.entries(expected)) {
  const runs = Object.fromEntries(ways.map((way) => [way, read(way, revision)]));
  const cells = [];
  for (const way of ways) {
    const passed = count(runs[way], ['SUCCESS']);
    const run = count(runs[way], ['SUCCESS', 'FAILURE']);
    cells.push(`${passed}/${run}`);
    if (passed !== wanted || run !== wanted) {
      complaints.push(`${revision} ${way}: ${passed} of ${run} checks passed, expected ${wanted} of ${wanted}`);
    }
  }
  rows.push([revision, String(wanted), ...cells]);
  const names = new Set(ways.flatMap((way) => [...runs[way].keys()]));
  for (const name of [...names].sort()) {
    const verdicts = ways.map((way) => verdict(runs[way].get(name)));
    const failed = verdicts.some((words) => words.includes('FAILURE'));
    if (failed || new Set(verdicts).size > 1) {
      const seen = ways.map((way, i) => `${way} ${verdicts[i]}`).join(', ');
      complaints.push(`${revision} ${name}: ${seen}`);
      complaints.push(...ways.flatMap((way) => details(runs[way].get(name))));
    }
  }
}

const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
for (const row of rows) {
  console.log(row.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd());
}
if (complaints.length > 0) {
  console.log(`\n${complaints.join('\n')}`);
  process.exitCode = 1;
}
