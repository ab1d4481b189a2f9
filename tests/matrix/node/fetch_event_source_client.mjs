// @microsoft/fetch-event-source, as its README has it first: its defaults, in a page that is never hidden.
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { show, url } from "./printing.mjs";

globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener: () => {}, removeEventListener: () => {} };

await fetchEventSource(url, { onmessage: (message) => show(message.event, message.data, message.id) });
