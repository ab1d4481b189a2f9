// node's http, with the stream's bytes by hand: node http_server.mjs PORT
import { once } from "node:events";
import { createServer } from "node:http";
import { byHand, echoed, one, PLAIN, port, say, stream, STREAMS } from "./routes.mjs";

const answer = async (request, response) => {
  const { pathname, searchParams: query } = new URL(request.url, "http://localhost");
  const name = pathname.slice(1);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  if (PLAIN.includes(name) || (name === "shutdown" && request.method === "POST")) {
    response.end(say(name, query.get("key") ?? "", () => server.close()));
  } else if (name === "early") {
    throw new Error("on purpose, before anything was sent");
  } else if (STREAMS.includes(name) || name === "echo") {
    response.setHeader("Content-Type", "text/event-stream");
    response.setHeader("Cache-Control", "no-cache");
    if (query.has("header")) response.setHeader("X-Echo", query.get("header"));
    const last = request.headers["last-event-id"] ?? "";
    const events = name === "echo" ? one(echoed(query)) : stream(name, query.get("key") ?? "", last, gone.signal, true);
    if (request.method === "HEAD") return response.end();
    response.flushHeaders();
    for await (const event of events) {
      if (gone.signal.aborted) return;
      if (!response.write(byHand(event))) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
    response.end();
  } else {
    response.statusCode = 404;
    response.end("no");
  }
};

const server = createServer((request, response) =>
  answer(request, response).catch(() => {
    if (response.headersSent) return response.destroy();
    response.statusCode = 500;
    response.end("failed");
  }),
);
server.listen(port, "127.0.0.1");
