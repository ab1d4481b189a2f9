// Cells that run in the page: each block that is marked gets its buttons, and Python is loaded at the first run.
(() => {
  const place = new URL(".", document.currentScript.src);
  const settings = document.currentScript.dataset;
  let worker = null;
  let running = null; // the cell that the worker has, one at a time

  const make = (name, attributes = {}, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inside);
    return element;
  };

  class Cell {
    constructor(block) {
      this.block = block;
      this.shown = block.querySelector(".highlight");
      this.source = block.querySelector("pre").textContent.replace(/\n$/, "");
      this.run = make("button", { type: "button", class: "live-run" }, "▶ Run");
      this.edit = make("button", { type: "button" }, "Edit");
      this.reset = make("button", { type: "button", hidden: "" }, "Reset");
      this.stop = make("button", { type: "button", hidden: "" }, "Stop");
      this.says = make("span", { class: "live-says", role: "status" });
      this.result = make("div", { class: "live-result", hidden: "" });
      const bar = make("div", { class: "live-bar" }, this.run, this.stop, this.edit, this.reset, this.says);
      block.after(bar, this.result);
      this.run.onclick = () => this.begin();
      this.stop.onclick = () => this.end("stopped", "Stopped. The next run loads Python again.");
      this.edit.onclick = () => this.open();
      this.reset.onclick = () => this.close();
    }

    open() {
      if (!this.area) {
        this.area = make("textarea", { class: "live-source", spellcheck: "false", "aria-label": "The code of this cell; Ctrl+Enter runs it" });
        this.area.value = this.source;
        this.area.rows = this.source.split("\n").length + 1;
        this.area.onkeydown = (event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            this.begin();
          }
        };
        this.shown.hidden = true;
        this.block.append(this.area);
      }
      this.edit.hidden = true;
      this.reset.hidden = false;
      this.area.focus();
    }

    close() {
      this.area?.remove();
      this.area = null;
      this.shown.hidden = false;
      this.edit.hidden = false;
      this.reset.hidden = true;
      this.result.hidden = true;
      this.says.textContent = "";
      this.edit.focus();
    }

    begin() {
      if (running) return running === this || (this.says.textContent = "Another cell runs; stop it, or wait.");
      if (location.protocol === "file:") {
        this.says.textContent = "Cells need a server: run `python -m http.server -d build/docs`, and open this page there.";
        return;
      }
      running = this;
      this.mark("loading", worker ? "Running …" : "Loading Python …");
      this.output = make("pre", { class: "live-output", tabindex: "0", "aria-label": "Output" });
      this.result.replaceChildren(this.output);
      this.result.hidden = false;
      this.run.hidden = true;
      this.stop.hidden = false;
      worker ??= new Worker(new URL("worker.mjs", place), { type: "module" });
      worker.onmessage = ({ data }) => this.hear(data);
      worker.onerror = () => this.end("failed", "Python could not be loaded. Reload the page, and try again.");
      worker.postMessage({ source: this.area ? this.area.value : this.source, path: this.block.dataset.path, whole: Number(settings.whole) });
    }

    hear(message) {
      if (message.kind === "loading") {
        const [come, whole] = [message.come, message.whole].map((bytes) => (bytes / 1e6).toFixed(0));
        this.mark("loading", `Loading Python: ${come} of ${whole} MB …`);
      } else if (message.kind === "running") {
        this.mark("running", "Running …");
      } else if (message.kind === "output") {
        this.output.append(`${message.text}\n`);
      } else if (message.kind === "broken") {
        this.end("failed", message.text);
      } else {
        this.show(message);
      }
    }

    show({ failure, streams }) {
      running = null;
      this.rest();
      if (!this.output.textContent) this.output.hidden = true;
      if (failure) {
        const whole = make("details", {}, make("summary", {}, "Where it was raised"), make("pre", { tabindex: "0" }, failure.whole));
        this.result.append(make("p", { class: "live-failure" }, `✗ ${failure.line}`), whole);
      }
      for (const stream of streams) this.result.append(...this.drawn(stream));
      this.mark(failure ? "failed" : "done", failure ? "It raised an exception." : "Done. Time in a cell is virtual: it takes no time to wait.");
    }

    drawn({ name, status, reason, arrivals, page }) {
      const last = Math.max(...arrivals.map(({ at }) => at), 1);
      const strip = make("div", { class: "live-strip", "aria-hidden": "true" });
      for (const { at } of arrivals) strip.append(make("i", { style: `left: ${(96 * at) / last}%` }));
      const says = [`${name}: ${status}`, `${arrivals.length} ${arrivals.length === 1 ? "event" : "events"}`, reason].filter(Boolean).join(", ");
      const list = make("ol", { class: "live-arrivals" });
      for (const { at, text } of arrivals.slice(0, 50)) list.append(make("li", {}, make("b", {}, `${at.toFixed(2)} s`), ` ${text}`));
      const made = [make("p", {}, says)];
      if (arrivals.length) made.push(strip, list);
      if (page) {
        const frame = make("iframe", { title: `${name}, step by step`, srcdoc: page });
        made.push(make("details", { open: "" }, make("summary", {}, "The steps, from this run's recording"), frame));
      }
      return made;
    }

    end(state, says) {
      worker?.terminate();
      worker = running = null;
      this.rest();
      this.mark(state, says);
    }

    rest() {
      this.run.hidden = false;
      this.stop.hidden = true;
    }

    mark(state, says) {
      this.block.dataset.state = state;
      this.says.textContent = says;
    }
  }

  for (const block of document.querySelectorAll(".live-cell")) new Cell(block);
})();
