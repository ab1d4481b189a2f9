// The connection state machine in JavaScript, as any program can have it: it reads lifecycle.json and knows no rule itself.

export class Rejected extends Error {
  constructor(cell, reason) {
    super(`${cell.error}: ${cell.trigger} in ${cell.state} (${cell.id})`);
    Object.assign(this, { name: cell.error, state: cell.state, trigger: cell.trigger, rule: cell.id, reason });
  }
}

export class Lifecycle {
  constructor(spec) {
    this.state = spec.initial;
    this.reason = undefined;
    this.cells = new Map(spec.cells.map((cell) => [`${cell.state} ${cell.trigger}`, cell]));
    this.triggers = new Map(spec.triggers.map((trigger) => [trigger.name, trigger]));
    this.final = spec.final;
  }

  // Pull a trigger: the next state, or a Rejected. JavaScript runs one step at a time, so this one is indivisible.
  pull(name, tell) {
    const trigger = this.triggers.get(name);
    if (!trigger) throw new RangeError(`there is no trigger ${name}`);
    if (tell !== undefined && !(trigger.may_be_told ?? []).includes(tell)) throw new RangeError(`${name} is told ${tell}`);
    const cell = this.cells.get(`${this.state} ${name}`);
    if (cell.error) throw new Rejected(cell, this.reason);
    if (cell.next === this.final && !cell.keeps_reason) this.reason = tell ?? trigger.gives;
    return (this.state = cell.next);
  }
}
