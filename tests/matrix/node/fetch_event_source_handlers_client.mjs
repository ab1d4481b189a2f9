// @microsoft/fetch-event-source with onopen, onclose and onerror as its README has them under "better error handling".
import { EventStreamContentType, fetchEventSource } from "@microsoft/fetch-event-source";
import { show, url } from "./printing.mjs";

globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener: () => {}, removeEventListener: () => {} };

class Retriable extends Error {}
class Fatal extends Error {}

await fetchEventSource(url, {
  async onopen(response) {
    if (response.ok && response.headers.get("content-type") === EventStreamContentType) return;
    const { status } = response;
    throw status >= 400 && status < 500 && status !== 429 ? new Fatal() : new Retriable();
  },
  onmessage: (message) => show(message.event, message.data, message.id),
  onclose() {
    throw new Retriable();
  },
  onerror(error) {
    if (error instanceof Fatal) throw error;
  },
});
