// eventsource-parser with node's fetch, as its README has it: it parses, tells ids by onId, and leaves the rest to its user.
import { createParser } from "eventsource-parser";
import { show, url } from "./printing.mjs";

let lastEventId = "";
const parser = createParser({
  onId: (id) => (lastEventId = id),
  onEvent: (event) => show(event.event, event.data, lastEventId),
});
const response = await fetch(url, { headers: { Accept: "text/event-stream" } });
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) parser.feed(chunk);
