// The contract's streams (spec/formats.md), without a framework: async generators of what is to be sent.
import { setTimeout as sleep } from "node:timers/promises";

const RATE = 200;
const PART = "x".repeat(65536);
const ENDLESS = 16 * 1024 * 1024; // characters of the event in place of an endless one

export const PLAIN = ["ready", "count", "flooded", "release"];
export const STREAMS = ["ticks", "first", "quiet", "busy", "gated", "late", "open", "flood", "large", "endless", "log"];
export const port = Number(process.argv[2]);

const gates = new Map();
let opened = 0;
let handed = 0;
let began = null;

const gate = (key) => {
  if (!gates.has(key)) {
    let open;
    const wait = new Promise((resolve) => (open = resolve));
    gates.set(key, { open, wait });
  }
  return gates.get(key);
};
const published = () => Math.floor(((performance.now() - began) / 1000) * RATE);
const whenGone = (signal) =>
  new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", resolve)));

export const say = (name, key = "", shutDown = () => {}) => {
  if (name === "count") return String(opened);
  if (name === "flooded") return String(handed);
  if (name === "release") gate(key).open();
  if (name === "shutdown") setTimeout(shutDown, 100);
  return name;
};

// As programs write it that have no library for it: nothing is looked at.
export const byHand = (event) =>
  event.part ??
  ["data", "event", "id", "retry"]
    .filter((name) => event[name] !== undefined)
    .map((name) => `${name}: ${event[name]}\n`)
    .join("") + "\n";

// With inParts the framework is handed text, which may be some of an event.
export async function* stream(name, key, last, gone, inParts = false) {
  if (name === "ticks") {
    yield { retry: 3000 };
    let from = Number(last || 0);
    if (!["", "1", "2", "3"].includes(last)) {
      yield { data: last, event: "gap" };
      from = 0;
    }
    for (let number = from + 1; number < 4; number++) yield { data: String(number), id: String(number) };
  } else if (name === "first" || name === "quiet") {
    yield { data: "first" };
    await whenGone(gone);
  } else if (name === "busy") {
    for (let number = 0; number < 9; number++) {
      yield { data: String(number) };
      await sleep(250);
    }
  } else if (name === "gated") {
    yield { data: "before" };
    await gate(key).wait;
    yield { data: "after" };
  } else if (name === "late") {
    yield { data: "1" };
    yield { data: "2" };
    throw new Error("on purpose, after two events");
  } else if (name === "open") {
    opened++;
    try {
      yield { data: "open" };
      await whenGone(gone);
    } finally {
      opened--;
    }
  } else if (name === "flood") {
    handed = 0;
    for (;;) {
      yield { data: PART };
      handed += PART.length;
      await sleep(0);
    }
  } else if (name === "large") {
    yield { data: "x".repeat(1_000_000) };
  } else if (name === "endless") {
    opened++;
    try {
      if (inParts) yield { part: "data: " };
      while (inParts) {
        yield { part: PART };
        await sleep(0);
      }
      yield { data: "x".repeat(ENDLESS) };
      await whenGone(gone);
    } finally {
      opened--;
    }
  } else if (name === "log") {
    began ??= performance.now();
    let number = last ? Number(last) : published();
    for (;;) {
      while (number < published()) {
        number++;
        yield { data: String(number), id: String(number) };
      }
      await sleep(1000 / RATE);
    }
  }
}

// The event of /echo.
export const echoed = (query) => ({
  data: query.get("data") ?? "",
  event: query.get("event") ?? undefined,
  id: query.get("id") ?? undefined,
});
export async function* one(event) {
  yield event;
}
