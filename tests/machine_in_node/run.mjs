// Runs files of lifecycle vectors through the machine, as spec/formats.md says: node run.mjs lifecycle.json FILE...
// Prints how many cases and steps there were; the first one that differs ends it with status 1.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Lifecycle, Rejected } from "./machine.mjs";

const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const known = (found, ...names) => {
  for (const name of Object.keys(found)) assert(names.includes(name), `a key that nobody knows: ${name}`);
};

const spec = read(process.argv[2]);
const errors = new Set(spec.errors.map((error) => error.name));
let cases = 0;
let steps = 0;
for (const path of process.argv.slice(3)) {
  const file = read(path);
  known(file, "format", "kind", "about", "cases");
  assert.deepEqual([file.format, file.kind], [1, "lifecycle"]);
  for (const found of file.cases) {
    known(found, "name", "steps");
    const life = new Lifecycle(spec);
    assert.deepEqual([life.state, life.reason], [spec.initial, undefined]);
    cases += 1;
    for (const step of found.steps) {
      known(step, "trigger", "tell", "error", "rule", "state", "reason");
      steps += 1;
      const where = `${path}: ${found.name}: ${step.trigger}`;
      const before = { state: life.state, trigger: step.trigger, rule: step.rule, reason: life.reason };
      try {
        life.pull(step.trigger, step.tell);
        assert(!("error" in step), `${where}: it has to be rejected`);
      } catch (error) {
        if (!(error instanceof Rejected)) throw error;
        assert(errors.has(step.error), `${where}: an error that nobody knows, or none`);
        assert.equal(error.name, step.error, where);
        const { state, trigger, rule, reason } = error;
        assert.deepEqual({ state, trigger, rule, reason }, before, where);
      }
      assert.deepEqual([life.state, life.reason], [step.state, step.reason], where);
    }
  }
}
console.log(`${cases} cases, ${steps} steps`);
