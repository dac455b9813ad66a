"""The documentation site: `make docs` builds it into build/docs."""

import sys
from pathlib import Path

import logitchain

sys.path.insert(0, str(Path(__file__).parent / "_site"))

project = "logitchain"
author = "the authors of logitchain"
version = release = logitchain.__version__
html_title = f"logitchain {version}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_output_stderr = "remove"  # that kernels are compiled, if they are

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    name: name for name in ("Entry", "PresetName", "DialectName", "Policy", "Of")
}
python_use_unqualified_type_names = True
default_role = "py:obj"  # `name` in a docstring
add_module_names = False
python_maximum_signature_line_length = 120

exclude_patterns = ["examples", "_site"]
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
smartquotes = False  # "" is an empty string
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
