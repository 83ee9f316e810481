"""The documentation site: `make docs` builds it into build/docs.

Sphinx, because its autodoc reads the docstrings of compiled modules from the built package, with
MyST, because all documents of this project are Markdown, and with furo, which is light and dark,
fits narrow screens and loads nothing from another host.
"""

from __future__ import annotations

import os
from typing import Any

import mioloop

project = "mioloop"
author = "the authors of mioloop"
copyright = author
version = release = mioloop.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]
nitpicky = True
nitpick_ignore_regex = [
    # References into other projects: their inventories would have to be fetched.
    (r"py:.*", r"(?!mioloop\b).*"),
    # Bases, and type variables of signatures, that are not public.
    (r"py:class", r"mioloop\.(loop|mio\.\w+)\..*"),
    (r"py:obj", r"mioloop\.takeover"),
]

# -- Markdown ---------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
highlight_language = "none"         # of a block that names no language

# -- the reference ----------------------------------------------------------------------------

default_role = "py:obj"             # in docstrings, `name` is a link if the reference has the name
autodoc_mock_imports = ["opentelemetry", "prometheus_client"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_rtype = False
napoleon_use_ivar = True
os.environ.pop("MIOLOOP_BACKEND", None)

# -- HTML -------------------------------------------------------------------------------------

html_theme = "furo"
pygments_dark_style = "github-dark"     # the default underlines names, as if they were links
html_title = f"mioloop {release}"
html_static_path = ["_static"]
html_css_files = ["mioloop.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {
        "color-brand-primary": "#1f5fa8",
        "color-brand-content": "#1f5fa8",
        "font-stack": "system-ui, sans-serif",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7fb4ee",
        "color-brand-content": "#7fb4ee",
    },
}
