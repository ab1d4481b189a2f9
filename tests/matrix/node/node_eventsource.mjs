// node's own EventSource, by --experimental-eventsource.
import { showAll, url } from "./printing.mjs";

showAll(new EventSource(url));
