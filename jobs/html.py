"""The few pieces of HTML a report is made of. Everything that comes from outside goes through ``text``."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; border: 1px solid #8884; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
td.value { text-align: right; color: #000; white-space: nowrap; }
td.best { outline: 3px solid #d33; outline-offset: -3px; font-weight: 700; }
img { max-width: 100%; height: auto; } img.pixels { image-rendering: pixelated; min-width: 50%; background: #000; }
figure { margin: 1rem 0; } figcaption, small, .note { color: #777; font-size: .9rem; }
details pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def text(value: object) -> str:
    """Any value, safe between tags and inside quotes."""
    return html.escape(str(value), quote=True)


def page(title: str, sections: Iterable[str]) -> str:
    """A whole document that asks for nothing from outside."""
    # The policy makes a browser refuse any request, whatever got into the page.
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(title)}</title><style>{STYLE}</style></head>
<body><h1>{text(title)}</h1>
{"".join(sections)}
</body></html>
"""


def section(title: str, *parts: str) -> str:
    """A heading and what belongs under it; nothing if there is nothing."""
    content = "".join(parts)
    return f"<section><h2>{text(title)}</h2>{content}</section>\n" if content else ""


def paragraph(content: object, *, kind: str = "") -> str:
    """One paragraph of plain text."""
    return f'<p class="{text(kind)}">{text(content)}</p>' if kind else f"<p>{text(content)}</p>"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls sideways by itself on a narrow screen; cells are text, or ready ``<td>`` from ``cell``."""
    header = "".join(f"<th>{text(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(_td(value) for value in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


class Markup(str):
    """HTML that is ready; never made from anything that came from outside."""

    __slots__ = ()


def value_cell(content: str, share: float | None, *, best: bool, hint: str) -> Markup:
    """A cell of the table of values: ``share`` in [0, 1] colours it from pale to green, None leaves it grey."""
    colour = "#ddd" if share is None else f"hsl({round(60 + 90 * share)} 65% {round(92 - 30 * share)}%)"
    kind = "value best" if best else "value"
    return Markup(f'<td class="{kind}" style="background:{colour}" title="{text(hint)}">{text(content)}</td>')


def picture(file: Path, caption: str, *, pixels: bool) -> str:
    """A picture file inside the page; ``pixels`` keeps its pixels sharp when it is enlarged."""
    kind = "jpeg" if file.suffix in (".jpg", ".jpeg") else file.suffix.removeprefix(".")
    return image(file.read_bytes(), kind, caption, pixels=pixels)


def image(content: bytes, kind: str, caption: str, *, pixels: bool) -> str:
    """An encoded picture inside the page."""
    data = base64.b64encode(content).decode()
    shape = ' class="pixels"' if pixels else ""
    return (
        f'<figure><img{shape} alt="{text(caption)}" src="data:image/{text(kind)};base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def details(title: str, content: str) -> str:
    """Long plain text that opens on demand."""
    return f"<details><summary>{text(title)}</summary><pre>{text(content)}</pre></details>"


def _td(value: object) -> str:
    return value if isinstance(value, Markup) else f"<td>{text(value)}</td>"
