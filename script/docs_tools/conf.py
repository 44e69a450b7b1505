"""What Sphinx is told: every page is plain Markdown, and the chapters are those of the indexes."""

import re
from typing import Final

from sphinx.application import Sphinx

from swarm_hub.const import __version__

project = "swarm_hub"
release = version = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
# The folder is that of the repository, so that links out of docs/ hold as they do on a forge.
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "examples", "script", "swarm_hub", "tests"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"swarm_hub {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# The demo's table and the messages of the hub are text.
highlight_language = "none"

_INDEXES: Final = ("docs/index", "docs/adr/README")
_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.md\)")


def setup(app: Sphinx) -> None:
    """Have the indexes lead to what they link."""
    app.connect("source-read", _add_chapters)


def _add_chapters(_app: Sphinx, page: str, source: list[str]) -> None:
    if page in _INDEXES:
        source[0] += chapters(source[0])


def chapters(text: str) -> str:
    """Return the table of contents that an index's headings and links say, as MyST has it."""
    # Text, then a heading and the text below it, and so on.
    found = ["", *_HEADING.split(text)]
    parts = []
    for caption, below in zip(found[::2], found[1::2], strict=True):
        links = [f"{title} <{path}>" for title, path in _LINK.findall(below)]
        if links and caption:
            parts.append(
                "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *links])
            )
        elif links and len(found) == 2:
            parts.append("\n".join(["```{toctree}", ":hidden:", "", *links]))
    return "".join(f"\n{part}\n```\n" for part in parts)
