// Python for the page's cells: loaded on the first message, then one cell after the other.
import { loadPyodide } from "./pyodide.mjs";

const fetched = self.fetch;
let python = null;

// Pyodide fetches its parts by itself; what has come of them is counted here.
function counting(whole) {
  let come = 0;
  self.fetch = async (...asked) => {
    const response = await fetched(...asked);
    if (!response.ok || !response.body) return response;
    const counted = response.body.pipeThrough(new TransformStream({
      transform(chunk, out) {
        come += chunk.byteLength;
        self.postMessage({ kind: "loading", come: Math.min(come, whole), whole });
        out.enqueue(chunk);
      },
    }));
    return new Response(counted, { status: response.status, headers: response.headers });
  };
}

async function load(whole) {
  counting(whole);
  const here = new URL(".", import.meta.url).href;
  const found = await loadPyodide({ indexURL: here });
  const packages = await (await self.fetch(new URL("packages.zip", here))).arrayBuffer();
  found.unpackArchive(packages, "zip", { extractDir: "/lib/cells" });
  found.runPython("import sys; sys.path.insert(0, '/lib/cells')");
  const told = (text) => self.postMessage({ kind: "output", text });
  found.setStdout({ batched: told });
  found.setStderr({ batched: told });
  return found.pyimport("cell");
}

self.onmessage = async ({ data }) => {
  try {
    python ??= await load(data.whole);
    self.postMessage({ kind: "running" });
    self.postMessage({ kind: "done", ...JSON.parse(python.run(data.source, data.path)) });
  } catch (error) {
    self.postMessage({ kind: "broken", text: String(error.message ?? error) });
  }
};
