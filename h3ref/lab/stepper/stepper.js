// The stepper and its cards. What a frame shows was worked out before, and stands in the page: this lights it. The cards are
// judged by a machine that reads spec/lifecycle.json and knows no rule itself.
(() => {
  "use strict";

  class Machine {
    constructor(spec) {
      this.state = spec.initial;
      this.reason = null;
      this.final = spec.final;
      this.cells = new Map(spec.cells.map((cell) => [`${cell.state} ${cell.trigger}`, cell]));
      this.gives = new Map(spec.triggers.map((trigger) => [trigger.name, trigger.gives]));
    }

    // What the machine says to a step: the cell's rule and reason, the error or none, and the state after it.
    pull(trigger, tell) {
      const cell = this.cells.get(`${this.state} ${trigger}`);
      const error = cell.error ?? null;
      const before = this.state;
      if (!error) {
        this.state = cell.next;
        if (cell.next === this.final && !cell.keeps_reason) this.reason = tell ?? this.gives.get(trigger);
      }
      return { trigger, before, error, state: this.state, rule: cell.id, why: cell.why };
    }
  }

  const make = (tag, text = "", kind = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  // Write a text into an element; the id of a rule in it stays whole, where a line could end at its hyphen.
  const write = (element, text) => {
    const parts = text.split(/\b([LT]-\d\d)\b/);
    element.replaceChildren(...parts.map((part, number) => (number % 2 ? make("span", part, "h3step-whole") : part)));
  };
  const show = (root, selector) => root.querySelectorAll(selector).forEach((element) => (element.hidden = false));
  const facts = (root, kind) => JSON.parse(root.querySelector(kind).textContent);

  // -- the recordings

  const NORMAL = 900;
  const WHERE_THEY_PART = 3200;

  function step(root) {
    const frames = facts(root, ".h3step-facts");
    const slider = root.querySelector(".h3step-bar input");
    const play = root.querySelector(".h3step-play");
    const columns = [...root.querySelectorAll(".h3step-column")];
    let timer = 0;

    function draw() {
      const at = Number(slider.value);
      const frame = frames[at];
      slider.setAttribute("aria-valuetext", `step ${at + 1} of ${frames.length}, ${frame.time}`);
      root.querySelector(".h3step-clock").textContent = `${at + 1}/${frames.length} · ${frame.time}`;
      const say = root.querySelector(".h3step-say");
      if (say.textContent !== frame.says) write(say, frame.says);
      columns.forEach((column, number) => light(column, frame.columns[number], frames.slice(0, at + 1), number));
    }

    function light(column, now, until, number) {
      const been = new Set(until.map((frame) => frame.columns[number].state));
      for (const state of column.querySelectorAll(".h3step-states li")) {
        const here = state.dataset.state === now.state;
        state.className = here ? `now${now.rejected && !now.waits ? " refused" : ""}` : been.has(state.dataset.state) ? "past" : "";
        if (here) state.setAttribute("aria-current", "step");
        else state.removeAttribute("aria-current");
      }
      for (const part of column.querySelectorAll("[data-row]")) {
        const row = Number(part.dataset.row);
        part.classList.toggle("to-come", row > now.row);
        part.classList.toggle("now", row === now.row && !now.waits && part.classList.contains("row"));
      }
      for (const line of column.querySelectorAll("[data-line]")) line.classList.toggle("lit", Number(line.dataset.line) === now.line);
      column.querySelector(".h3step-has").textContent = now.has;
      const bytes = [...column.querySelectorAll(".h3step-client [data-row]:not(.to-come)")].at(-1);
      const pane = column.querySelector(".h3step-client pre");
      pane.scrollTop = bytes ? bytes.offsetTop + bytes.offsetHeight - pane.clientHeight : 0;
      const status = column.querySelector(".h3step-status");
      status.textContent = now.status;
      status.classList.toggle("silent", now.status.includes("silence"));
    }

    function go(to) {
      slider.value = Math.max(0, Math.min(frames.length - 1, to));
      draw();
    }

    function stop() {
      clearTimeout(timer);
      timer = 0;
      play.textContent = "▶ Play";
    }

    function next() {
      const at = Number(slider.value);
      if (at === frames.length - 1) return stop();
      go(at + 1);
      timer = setTimeout(next, frames[at + 1].parts ? WHERE_THEY_PART : NORMAL);
    }

    function start() {
      if (Number(slider.value) === frames.length - 1) go(0);
      play.textContent = "⏸ Pause";
      timer = setTimeout(next, NORMAL);
    }

    const by_hand = (to) => {
      stop();
      go(to);
    };
    play.addEventListener("click", () => (timer ? stop() : start()));
    slider.addEventListener("input", () => by_hand(Number(slider.value)));
    root.querySelector(".h3step-back").addEventListener("click", () => by_hand(Number(slider.value) - 1));
    root.querySelector(".h3step-on").addEventListener("click", () => by_hand(Number(slider.value) + 1));

    // The arrow keys, Home and End: on the slider the browser does it; elsewhere in the recordings, and while nothing has the
    // focus and they are in view, they do the same.
    const place = (key) => ({ ArrowRight: Number(slider.value) + 1, ArrowLeft: Number(slider.value) - 1, Home: 0, End: frames.length })[key];
    document.addEventListener("keydown", (event) => {
      const focus = document.activeElement;
      const inside = root.contains(focus) && focus !== slider && !focus.closest(".h3game");
      const free = focus === document.body && ["ArrowRight", "ArrowLeft"].includes(event.key) && in_view(root);
      if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !(inside || free)) return;
      const to = place(event.key);
      if (to === undefined) return;
      event.preventDefault();
      by_hand(to);
    });

    // A finger that is drawn across the columns takes a step.
    let from = null;
    const touched = root.querySelector(".h3step-columns");
    touched.addEventListener("touchstart", (event) => (from = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
    touched.addEventListener("touchend", (event) => {
      if (!from) return;
      const x = event.changedTouches[0].clientX - from.clientX;
      const y = event.changedTouches[0].clientY - from.clientY;
      from = null;
      if (Math.abs(x) > 48 && Math.abs(x) > 2 * Math.abs(y)) by_hand(Number(slider.value) + (x < 0 ? 1 : -1));
    });

    root.classList.add("live");
    show(root, ".h3step-bar");
    draw();
  }

  function in_view(element) {
    const { top, bottom } = element.getBoundingClientRect();
    return top < innerHeight / 2 && bottom > innerHeight / 2;
  }

  // -- the cards

  function judge(spec, order) {
    const machine = new Machine(spec);
    return order.map((trigger) => machine.pull(trigger));
  }

  function sent_by(results, sends) {
    const sent = [];
    for (const { trigger, error } of results) {
      if (!error && sends[trigger] && (sent.length || trigger === "send_headers")) sent.push(sends[trigger]);
    }
    return sent;
  }

  function on_the_wire(sent, sends) {
    if (!sent.length) return "On the wire: nothing of a stream.";
    return `On the wire: ${sent.join(", then ")}${sent.includes(sends.send_event) ? "" : ", and not one event"}.`;
  }

  function cards(root) {
    const { spec, steps, first, sends, wire, rules } = facts(root, ".h3game-facts");
    const list = root.querySelector(".h3game-cards");
    const verdict = root.querySelector(".h3game-verdict");
    const link = root.querySelector(".h3game-link");
    let order = from_url() ?? [...first];

    // The order in the address: #order=start_sse,send_headers,...
    function from_url() {
      const named = /(?:^#|&)order=([\w,]+)/.exec(decodeURIComponent(location.hash));
      const found = named ? named[1].split(",") : [];
      return [...found].sort().join() === [...steps].sort().join() ? found : null;
    }

    function draw() {
      const results = judge(spec, order);
      results.forEach((result, place) => {
        const card = card_of(result.trigger);
        if (list.children[place] !== card) list.insertBefore(card, list.children[place]);
        card.classList.toggle("rejected", Boolean(result.error));
        card.querySelector(".h3game-place").textContent = place + 1;
        write(card.querySelector(".h3game-result"), result.error ? `✗ ${result.error}, ${result.rule}` : `✓ ${result.state}`);
      });
      verdict.replaceChildren(...told(results));
      verdict.classList.toggle("wrong", results.some(({ error }) => error));
      link.href = `#order=${order.join(",")}`;
    }

    function told(results) {
      const wrong = results.find(({ error }) => error);
      if (!wrong) return praise();
      const what = make("b");
      const rule = rules ? Object.assign(make("a", wrong.rule), { href: `${rules}#${wrong.rule}` }) : make("span", wrong.rule, "h3step-whole");
      what.append("✗ ", make("code", wrong.trigger), " is rejected in ", make("code", wrong.state), " by rule ", rule, `: ${wrong.error}.`);
      const line = make("p");
      line.append(what);
      return [line, make("p", wrong.why), make("p", on_the_wire(sent_by(results, sends), sends))];
    }

    function praise() {
      const line = make("p");
      line.append(make("b", "✓ No rule objects. This is the one order of a hundred and twenty that streams. Well done!"));
      return [line, make("p", "This leaves on the wire, in this order:"), make("pre", wire.map(([, text]) => text).join(""))];
    }

    const card_of = (trigger) => list.querySelector(`[data-step="${trigger}"]`);

    function put(new_order) {
      order = new_order;
      draw();
      try {
        history.replaceState(history.state, "", link.href);
      } catch {
        // a page without an address, as in a notebook's frame
      }
    }

    function move(trigger, to) {
      const from = order.indexOf(trigger);
      if (to < 0 || to >= order.length || to === from) return;
      const moved = order.filter((other) => other !== trigger);
      moved.splice(to, 0, trigger);
      put(moved);
    }

    list.addEventListener("click", (event) => {
      const button = event.target.closest("[data-by]");
      if (!button) return;
      const trigger = button.closest("[data-step]").dataset.step;
      move(trigger, order.indexOf(trigger) + Number(button.dataset.by));
      button.focus();
    });
    list.addEventListener("keydown", (event) => {
      const card = event.target.closest("[data-step]");
      const at = order.indexOf(card?.dataset.step);
      const to = { ArrowUp: at - 1, ArrowLeft: at - 1, ArrowDown: at + 1, ArrowRight: at + 1, Home: 0, End: order.length - 1 }[event.key];
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      move(card.dataset.step, to);
      event.target.focus();
    });

    // By drag: a mouse takes a card anywhere, a finger by its grip, for elsewhere it scrolls the page.
    let dragged = null;
    list.addEventListener("pointerdown", (event) => {
      const grip = event.target.closest(".h3game-grip");
      const takes = grip || (event.pointerType === "mouse" && !event.target.closest("button"));
      if (!takes || event.button > 0) return;
      dragged = event.target.closest("[data-step]");
      if (!dragged) return;
      dragged.classList.add("dragged");
      list.setPointerCapture(event.pointerId);
      if (!grip) event.preventDefault();
    });
    list.addEventListener("pointermove", (event) => {
      if (!dragged) return;
      const others = [...list.children].filter((card) => card !== dragged);
      const above = others.filter((card) => {
        const { top, height } = card.getBoundingClientRect();
        return event.clientY > top + height / 2;
      });
      move(dragged.dataset.step, above.length);
    });
    const drop = () => {
      dragged?.classList.remove("dragged");
      dragged = null;
    };
    list.addEventListener("pointerup", drop);
    list.addEventListener("pointercancel", drop);

    for (const button of root.querySelectorAll("[data-order]")) {
      button.addEventListener("click", () => put(button.dataset.order === "first" ? [...first] : [...steps]));
    }
    addEventListener("hashchange", () => {
      const asked = from_url();
      if (asked) put(asked);
    });
    show(root, ".h3game-grip, .h3game-moves, .h3game-more");
    draw();
    if (from_url()) root.scrollIntoView({ block: "center" });
  }

  // -- in a notebook's frame: as high as its content, and as dark as what is around it

  function fit() {
    let frame = null;
    try {
      frame = window.frameElement;
    } catch {
      return; // of another origin
    }
    if (!frame) return;
    const around = frame.ownerDocument.body;
    const theme = () => {
      const dark = [
        around.dataset.jpThemeLight && around.dataset.jpThemeLight === "false",
        around.classList.contains("vscode-dark"),
        around.dataset.theme === "dark",
      ].some(Boolean);
      const light = around.dataset.jpThemeLight === "true" || around.classList.contains("vscode-light") || around.dataset.theme === "light";
      document.body.dataset.theme = dark ? "dark" : light ? "light" : "auto";
    };
    theme();
    new MutationObserver(theme).observe(around, { attributes: true });
    new ResizeObserver(() => (frame.style.height = `${document.documentElement.offsetHeight + 4}px`)).observe(document.documentElement);
  }

  for (const root of document.querySelectorAll(".h3step:not(.live)")) {
    step(root);
    root.querySelectorAll(".h3game").forEach(cards);
  }
  if (document.body.classList.contains("h3step-page")) fit();
  window.h3step = { Machine, judge };
})();
