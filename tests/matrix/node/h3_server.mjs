// h3's createEventStream, on its own server for node: node h3_server.mjs PORT
import { createEventStream, H3, serve } from "h3";
import { echoed, one, PLAIN, port, say, stream, STREAMS } from "./routes.mjs";

const app = new H3();

const streamed = (event, events, gone) => {
  const eventStream = createEventStream(event);
  eventStream.onClosed(() => gone.abort());
  (async () => {
    let retry = {}; // it sends no event without data
    for await (const found of events) {
      if (gone.signal.aborted) return;
      if (found.data === undefined) retry = found;
      else await eventStream.push({ ...retry, ...found });
      if (found.data !== undefined) retry = {};
    }
    await eventStream.close();
  })().catch(() => eventStream.close());
  return eventStream.send();
};

for (const name of PLAIN) app.get(`/${name}`, (event) => say(name, event.url.searchParams.get("key") ?? ""));
for (const name of STREAMS) {
  app.get(`/${name}`, (event) => {
    const gone = new AbortController();
    const last = event.req.headers.get("last-event-id") ?? "";
    return streamed(event, stream(name, event.url.searchParams.get("key") ?? "", last, gone.signal), gone);
  });
}
app.get("/early", () => {
  throw new Error("on purpose, before anything was sent");
});
app.get("/echo", (event) => {
  const query = event.url.searchParams;
  if (query.has("header")) event.res.headers.set("X-Echo", query.get("header"));
  return streamed(event, one(echoed(query)), new AbortController());
});
app.post("/shutdown", () => say("shutdown", "", () => server.close()));
const server = serve(app, { port, hostname: "127.0.0.1", silent: true });
