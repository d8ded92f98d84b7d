"""A page in the look of the report that holds no script: text, tables and pictures in one file."""

from __future__ import annotations

import html
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
    return _PAGE.format(policy=content_policy(style=whole), title=html.escape(title), style=whole, body=body)
