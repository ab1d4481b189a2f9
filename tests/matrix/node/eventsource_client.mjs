// The package eventsource, as its README has it.
import { EventSource } from "eventsource";
import { showAll, url } from "./printing.mjs";

showAll(new EventSource(url));
