"""The five steps of a stream as cards to put in order; the machine says which rule objects, here as on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from h3ref.errors import LifecycleError
from h3ref.lifecycle import Lifecycle

from .words import whole

STEPS = ("start_sse", "send_headers", "get_writer", "send_event", "close")
"""The steps in the order that streams."""

H3Z = ("start_sse", "get_writer", "send_headers", "send_event", "close")
"""The order that a page begins with: the bug."""

SENDS = {"send_headers": "the head", "send_event": "an event", "close": "the proper end"}
"""What leaves on the wire when a step is taken, of a stream."""


@dataclass(frozen=True)
class Result:
    """What the machine says to one step.

    Attributes:
        trigger: the step.
        state: the state after it.
        error: the name of the exception, or None when it is accepted.
        rule: the id of the cell.
        why: the rule's reason.
    """

    trigger: str
    state: str
    error: str | None
    rule: str
    why: str


def results_of(order: Sequence[str], spec: dict[str, Any]) -> list[Result]:
    """Take steps in this order, and return what the machine says to each."""
    life = Lifecycle()
    cells = {(cell["state"], cell["trigger"]): cell for cell in spec["cells"]}
    found = []
    for trigger in order:
        cell = cells[str(life.state), trigger]
        error = None
        try:
            life.trigger(trigger)
        except LifecycleError as rejected:
            error = type(rejected).__name__
        found.append(Result(trigger, str(life.state), error, cell["id"], cell["why"]))
    return found


def sent_by(results: Sequence[Result]) -> list[str]:
    """What leaves on the wire: what the accepted steps send, once there is a head."""
    found: list[str] = []
    for result in results:
        if result.error is None and result.trigger in SENDS and (found or result.trigger == "send_headers"):
            found.append(SENDS[result.trigger])
    return found


def game(spec: dict[str, Any], wire: Sequence[tuple[str, str]], rules: str = "") -> str:
    """Return the cards as HTML, in H3Z's order.

    Args:
        spec: the contents of lifecycle.json.
        wire: what leaves on the wire in the right order: a name and the bytes, as text.
        rules: the address of a page where each rule's id is an anchor; "" for no links.
    """
    results = results_of(H3Z, spec)
    facts = {"spec": spec, "steps": STEPS, "first": H3Z, "sends": SENDS, "wire": wire, "rules": rules}
    means = {trigger["name"]: trigger["means"] for trigger in spec["triggers"]}
    return "\n".join(
        [
            '<div class="h3game">',
            '<p class="h3game-title">Now put the steps in order yourself</p>',
            "<p>Five steps make a stream. This is the order that H3Z takes them in. Drag a card, or use its arrows: "
            "the state machine, <code>spec/lifecycle.json</code>, says which rule objects, and why.</p>",
            '<ol class="h3game-cards">',
            *(_card(result, means[result.trigger], place) for place, result in enumerate(results)),
            "</ol>",
            f'<div class="h3game-verdict wrong" aria-live="polite">{"".join(_verdict(results, rules))}</div>',
            '<p class="h3game-more" hidden><button type="button" data-order="first">H3Z&#39;s order</button> '
            '<button type="button" data-order="steps">Show me the right one</button> '
            '<a class="h3game-link" href="#">Link to this order</a></p>',
            f'<script type="application/json" class="h3game-facts">{as_json(facts)}</script>',
            "</div>",
        ]
    )


def _card(result: Result, means: str, place: int) -> str:
    kind = " rejected" if result.error else ""
    name = escape(result.trigger)
    return (
        f'<li class="h3game-card{kind}" data-step="{name}">'
        f'<button type="button" class="h3game-grip" hidden aria-label="{name}: drag, or press an arrow key">'
        '<span aria-hidden="true">⠿</span></button>'
        f'<span class="h3game-place">{place + 1}</span>'
        f'<span class="h3game-step"><code>{name}</code> <span class="h3game-means">{escape(means)}</span></span>'
        f'<span class="h3game-result">{whole(told(result))}</span>'
        f'<span class="h3game-moves" hidden><button type="button" data-by="-1" aria-label="{name} earlier">↑</button>'
        f'<button type="button" data-by="1" aria-label="{name} later">↓</button></span></li>'
    )


def told(result: Result) -> str:
    """What a card says of its step."""
    return f"✗ {result.error}, {result.rule}" if result.error else f"✓ {result.state}"


def _verdict(results: Sequence[Result], rules: str) -> Iterator[str]:
    """What stands below the cards for an order that is rejected; `stepper.js` says the same."""
    first = next(result for result in results if result.error)
    state = escape(first.state)
    yield f"<p><b>✗ <code>{escape(first.trigger)}</code> is rejected in <code>{state}</code> "
    yield f"by rule {_link(first.rule, rules)}: {escape(first.error or '')}.</b></p><p>{escape(first.why)}</p>"
    yield f"<p>{escape(on_the_wire(sent_by(results)))}</p>"


def _link(rule: str, rules: str) -> str:
    return f'<a href="{escape(rules)}#{escape(rule)}">{whole(rule)}</a>' if rules else whole(rule)


def on_the_wire(sent: Sequence[str]) -> str:
    """What the client gets of a stream, in a sentence."""
    if not sent:
        return "On the wire: nothing of a stream."
    return f"On the wire: {', then '.join(sent)}{'' if SENDS['send_event'] in sent else ', and not one event'}."


def as_json(facts: object) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
