"""Configure Sphinx for the documentation site; `tools/site` builds it.

The source folder is the root of the repository, because README, CONTRIBUTING, SECURITY and CHANGELOG are pages of the
site too and link to others as they do in the repository. docs/decisions/documentation-site.md: why Sphinx.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from tools.reference.log_events import table

project = "asterisk-bridge"
author = "the contributors of asterisk-bridge"
project_copyright = author
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/**/*.md",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
]
exclude_patterns = [".*", "bridge", "tests", "tools", "examples", "asterisk", "packaging", "dist"]
myst_heading_anchors = 4  # the anchors of GitHub: links work in both places
suppress_warnings = [
    "myst.header",  # a page may go from "#" to "###"
    "misc.highlighting_failure",  # tests/unit/test_docs.py parses the samples
]
html_theme = "furo"
html_title = "asterisk-bridge"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_extra_path = ["site"]  # index.html at the root, which leads to docs/index.html
html_static_path = ["static"]
html_css_files = ["site.css"]
highlight_language = "text"  # of blocks without a language: shell sessions, dialplan
highlight_options = {"default": {"stripall": False}}


def setup(app: Any) -> None:
    """Let Sphinx put the log events into their page: they change too often to be committed."""

    def insert(_: Any, page: str, source: list[str]) -> None:
        if page == "docs/reference/log":
            source[0] = source[0].replace("<!-- log events -->", table())

    app.connect("source-read", insert)
