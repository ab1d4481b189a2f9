// What the judge wants of a client written in JavaScript: a line of JSON for each message, at once; and what types of
// messages an EventSource, which tells no others, must listen for.
import { readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

export const url = process.argv.at(-1);

// All types that the vectors have, from their folder.
const typesOf = (folder) =>
  new Set(
    readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .flatMap((name) => JSON.parse(readFileSync(join(folder, name), "utf8")).cases)
      .flatMap((one) => one.messages.map((message) => message.type)),
  );

export const show = (event, data, id) => {
  const line = Buffer.from(JSON.stringify({ event, data, id }) + "\n");
  for (let at = 0; at < line.length; ) {
    try {
      at += writeSync(1, line, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // the pipe is full
    }
  }
};

// All that an EventSource tells, until it has given up. Until then the program goes on, whatever else keeps it alive.
export const showAll = (source) => {
  setInterval(() => {}, 1 << 30);
  for (const type of typesOf("spec/vectors/parse")) {
    source.addEventListener(type, (message) => show(message.type, message.data, message.lastEventId));
  }
  source.addEventListener("error", () => source.readyState === 2 && process.exit());
};
