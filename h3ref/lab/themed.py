"""The colours of HTML in notebooks: light, or dark if the page or its reader is."""

from __future__ import annotations

from typing import Final

_LIGHT: Final = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "edge": "#d1d9e0",
    "card": "#f6f8fa",
    "good": "#0a6b47",
    "good-tint": "#dff3ea",
    "bad": "#a83f00",
    "bad-tint": "#fdeadd",
    "calm-tint": "#e9ecef",
    "word": "#6f2da8",
    "text": "#0a6b47",
    "name": "#0059b3",
}
_DARK: Final = {
    "ink": "#e6edf3",
    "soft": "#a3adb8",
    "edge": "#3a4048",
    "card": "#1c1f23",
    "good": "#5fd3a8",
    "good-tint": "#12362a",
    "bad": "#ff9b5e",
    "bad-tint": "#432712",
    "calm-tint": "#2c3138",
    "word": "#d3a8f5",
    "text": "#7fd6a9",
    "name": "#7db8f7",
}


def style(rules: str) -> str:
    """A `<style>` with these rules, which may use `var(--h3lab-ink)` and so on within the class `h3lab`."""
    light, dark = (
        " ".join(f"--h3lab-{name}: {value};" for name, value in colours.items()) for colours in (_LIGHT, _DARK)
    )
    return (
        f"<style>\n.h3lab {{ {light} color: var(--h3lab-ink); }}\n"
        f'@media (prefers-color-scheme: dark) {{ body:not([data-theme="light"]):not([data-jp-theme-light="true"]) '
        f".h3lab {{ {dark} }} }}\n"
        f'body[data-theme="dark"] .h3lab, body[data-jp-theme-light="false"] .h3lab {{ {dark} }}\n{rules}</style>'
    )
