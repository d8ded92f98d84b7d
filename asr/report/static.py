"""Pages in the look of the report that hold no script: text, tables and pictures in one file; and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from asr.report.write import content_policy

_STYLE = Path(__file__).parent / "page" / "report.css"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header class="top"><h1>{title}</h1></header>
<main class="overview">
{body}
</main>
</body>
</html>
"""


def static_page(*, title: str, body: str, style: str = "") -> str:
    """The page with `body`, HTML in the classes of `report.css` and of `style`, which come with it."""
    whole = _STYLE.read_text(encoding="utf-8") + style
    return _PAGE.format(policy=content_policy(style=whole), title=escape(title), style=whole, body=body)


def card(title: str, *content: str, wide: bool = False) -> str:
    """A card of a page; "" where there is no content."""
    whole = "\n".join(part for part in content if part)
    return (
        f'<section class="card{" wide" if wide else ""}"><h2>{escape(title)}</h2>\n{whole}\n</section>' if whole else ""
    )


def note(text: str) -> str:
    """A remark in small letters."""
    return f'<p class="muted">{escape(text)}</p>'


def sentences(texts: Iterable[str]) -> str:
    """A list of sentences; "" without any."""
    lines = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="sentences">{lines}</ul>' if lines else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of HTML cells; those in the columns `numbers` stand at the right."""

    def cell(kind: str, at: int, content: str) -> str:
        # On a telephone there is no room for the head, and the label stands above the number.
        marks = f' class="number" data-label="{escape(head[at])}"' if at in numbers else ""
        return f"<{kind}{marks}>{content}</{kind}>"

    top = "".join(cell("th", at, escape(name)) for at, name in enumerate(head))
    lines = ("".join(cell("td", at, content) for at, content in enumerate(row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll"><table class="results"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )
