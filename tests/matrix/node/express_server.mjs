// express, with the stream's bytes by hand: node express_server.mjs PORT
import { once } from "node:events";
import express from "express";
import { byHand, echoed, one, PLAIN, port, say, stream, STREAMS } from "./routes.mjs";

const app = express();

const streamed = async (request, response, events, gone) => {
  response.set({ "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  response.flushHeaders();
  for await (const event of events) {
    if (gone.aborted) return;
    if (!response.write(byHand(event))) await Promise.race([once(response, "drain"), once(response, "close")]);
  }
  response.end();
};

app.get("/:name", async (request, response, next) => {
  const { name } = request.params;
  const query = new URL(request.originalUrl, "http://localhost").searchParams;
  const key = query.get("key") ?? "";
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  if (PLAIN.includes(name)) return response.type("text/plain").send(say(name, key));
  if (name === "early") throw new Error("on purpose, before anything was sent");
  if (name === "echo") {
    if (query.has("header")) response.set("X-Echo", query.get("header"));
    return streamed(request, response, one(echoed(query)), gone.signal);
  }
  if (!STREAMS.includes(name)) return next();
  const last = request.get("Last-Event-ID") ?? "";
  await streamed(request, response, stream(name, key, last, gone.signal, true), gone.signal);
});
app.post("/shutdown", (request, response) => response.type("text/plain").send(say("shutdown", "", () => server.close())));
const server = app.listen(port, "127.0.0.1");
