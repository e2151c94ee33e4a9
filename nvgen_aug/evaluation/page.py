"""Page: an HTML document in one file, without scripts and without anything from the net."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import final

from ..whole_file import replacing

_STYLE = """
:root { color-scheme: light; --ink: #0f172a; --soft: #475569; --line: #e2e8f0; --accent: #d9480f; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f8fb; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { margin: 6px 0 12px; max-width: 76ch; }
.lead { color: var(--soft); margin-bottom: 22px; }
.soft { color: var(--soft); font-size: 14.5px; }
.notice { background: #fff7ed; border: 1px solid #fed7aa; border-left: 5px solid var(--accent);
  border-radius: 8px; padding: 12px 18px; margin: 0 0 22px; }
.notice p { margin: 4px 0; max-width: none; }
section { background: #fff; border: 1px solid var(--line); border-radius: 12px;
  padding: 22px 24px; margin: 0 0 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(155px, 1fr)); gap: 12px;
  margin: 0 0 20px; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13.5px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; margin: 8px 0 4px;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align: right; }
td { overflow-wrap: anywhere; }
.facts td:first-child { color: var(--soft); width: 34%; }
img, svg { display: block; max-width: 100%; height: auto; }
img { border-radius: 8px; margin-top: 10px; }
svg text { font-family: inherit; }
.key { display: inline-flex; align-items: center; gap: 7px; margin-right: 18px; font-size: 14px; }
.key i { width: 22px; height: 4px; border-radius: 2px; display: inline-block; }
code { font: 13.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; background: #f1f5f9;
  padding: 1px 5px; border-radius: 4px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


@final
class Page:
    """Sections one after another; all text is escaped here and nowhere else.

    Args:
        title: Heading of the page and of its tab.
        lead: A line below it.
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>']

    def notice(self, sentences: Sequence[str]) -> None:
        """What the reader must know before anything else."""
        lines = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
        self._parts.append(f'<div class="notice" role="note">{lines}</div>')

    def tiles(self, tiles: Sequence[tuple[str, str]]) -> None:
        """A row of numbers, each with what it counts."""
        shown = "".join(
            f'<div class="tile"><b>{escape(number)}</b><span>{escape(name)}</span></div>'
            for number, name in tiles
        )
        self._parts.append(f'<div class="tiles">{shown}</div>')

    def section(self, title: str, text: str, *parts: str) -> None:
        """A section of parts made by the functions below."""
        soft = f'<p class="soft">{escape(text)}</p>' if text else ""
        self._parts.append(f"<section><h2>{escape(title)}</h2>{soft}{''.join(parts)}</section>")

    def write(self, path: Path) -> Path:
        """Write the page beside its final place and rename it there."""
        text = (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self._title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<main>\n{chr(10).join(self._parts)}\n</main>\n</body>\n</html>\n"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return path


def picture(path: Path, description: str) -> str:
    """A PNG file, inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'


def keys(entries: Sequence[tuple[str, str]]) -> str:
    """A legend of (colour, name)."""
    return "".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in entries
    )


def heading(title: str) -> str:
    """A smaller title inside a section."""
    return f"<h3>{escape(title)}</h3>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers in columns, their names on top."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line."""
    body = "".join(f"<tr><td>{escape(n)}</td><td>{escape(v)}</td></tr>" for n, v in rows)
    return f'<table class="facts"><tbody>{body}</tbody></table>'
