// A browser's part: asks a chat as told on the command line, and prints what came of it as a line of JSON.
//   node client.mjs ask|defaults URL shown|hidden
// With "hidden" the tab is hidden at the first token, and shown again.
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { ask } from "./chat.mjs";

const [how, url, tab] = process.argv.slice(2);
const listeners = new Set();
globalThis.window = globalThis;
globalThis.document = {
  hidden: false,
  addEventListener: (_, listener) => listeners.add(listener),
  removeEventListener: (_, listener) => listeners.delete(listener),
};

const tokens = [];
const take = (text) => {
  tokens.push(text);
  if (tab === "hidden" && tokens.length === 1) {
    for (const hidden of [true, false]) {
      document.hidden = hidden;
      for (const listener of [...listeners]) listener();
    }
  }
};

const byDefault = () =>
  fetchEventSource(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: "Bearer secret" },
    body: JSON.stringify({ text: "hi" }),
    onmessage: (message) => message.event === "token" && take(JSON.parse(message.data).text),
  });

let error = null;
try {
  await (how === "ask" ? ask(url, "secret", "hi", take) : byDefault());
} catch (failure) {
  error = failure.message;
}
console.log(JSON.stringify({ tokens, error }));
