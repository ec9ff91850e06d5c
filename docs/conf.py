"""How `make docs` builds the site: Sphinx, Markdown by MyST, the theme Furo.

Sphinx includes parts of source files and pages made from the code, checks links to headings, and
can treat every warning as an error; MkDocs is unmaintained, and Zensical can't do the first two
yet. Nothing is loaded from other sites, neither while the site is built nor by its pages.
"""

import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

project = "LLM Cores on Ray Serve"
project_copyright = "its authors, Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["_generated"]

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["tables.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3  # so that links to headings are checked


def setup(app: Sphinx) -> None:
    """Writes the pages that come from the code, before any page is read."""
    from ops import reference

    app.connect("builder-inited", lambda _: reference.write(DOCS / "_generated"))
