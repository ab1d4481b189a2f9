// better-sse on node's http, with a keep-alive of one second: node better_sse_server.mjs PORT
//
// Its own serializer makes JSON of each text; this one writes texts as they are, each of their lines into a field of its own.
import { createServer } from "node:http";
import { createSession } from "better-sse";
import { echoed, one, PLAIN, port, say, stream, STREAMS } from "./routes.mjs";

const serializer = (text) => text.replace(/\r\n|\r|\n/g, "\ndata:");

const answer = async (request, response) => {
  const { pathname, searchParams: query } = new URL(request.url, "http://localhost");
  const name = pathname.slice(1);
  if (PLAIN.includes(name) || (name === "shutdown" && request.method === "POST")) {
    response.end(say(name, query.get("key") ?? "", () => server.close()));
  } else if (name === "early") {
    throw new Error("on purpose, before anything was sent");
  } else if (STREAMS.includes(name) || name === "echo") {
    const gone = new AbortController();
    const headers = query.has("header") ? { "X-Echo": query.get("header") } : {};
    const session = await createSession(request, response, { keepAlive: 1000, retry: 3000, serializer, headers });
    session.on("disconnected", () => gone.abort());
    const events =
      name === "echo" ? one(echoed(query)) : stream(name, query.get("key") ?? "", session.lastId, gone.signal);
    for await (const event of events) {
      if (!session.isConnected) return;
      if (event.data !== undefined) session.push(event.data, event.event, event.id); // the session says retry itself
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
