// eventsource-parser with node's fetch, as its README has it: it parses, and leaves the rest to its user.
import { createParser } from "eventsource-parser";
import { show, url } from "./printing.mjs";

const response = await fetch(url, { headers: { Accept: "text/event-stream" } });
const parser = createParser({ onEvent: (event) => show(event.event, event.data, event.id) });
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) parser.feed(chunk);
