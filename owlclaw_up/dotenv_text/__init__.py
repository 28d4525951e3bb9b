"""Text stage: read and edit the bytes of a ``.env`` file in place.

In: the bytes of a ``.env`` file and the keys to set.  Out: the new bytes, in which every line that is not ours stays
byte for byte (comments, order, quotes, ``export``, BOM, line ends, a missing last newline).  This module is pure: it
opens no file, reads no environment variable, and logs nothing (values may be secrets, and no error quotes one).

`grammar` makes statements of the bytes, and the others read, write and edit those.

Course of a set-up and its way back::

    shape_before = shape(data, header)           # keep both, e.g. as JSON
    originals = raw_values(data, updates)
    data = edit(data, updates, header=header)    # as often as needed
    data = restore(data, originals, header=header, shape=shape_before)
"""

from owlclaw_up.dotenv_text.editing import Shape, edit, raw_values, restore, shape
from owlclaw_up.dotenv_text.grammar import DotenvError
from owlclaw_up.dotenv_text.reading import Assignment, broken_lines, parse, values
from owlclaw_up.dotenv_text.rendering import render_value

__all__ = [
    "Assignment",
    "DotenvError",
    "Shape",
    "broken_lines",
    "edit",
    "parse",
    "raw_values",
    "render_value",
    "restore",
    "shape",
    "values",
]
