"""A value -> its text on the right side of ``KEY=``, in the style that most readers read alike. Pure."""

import re

from owlclaw_up.dotenv_text.grammar import DotenvError, Quote, encode

# Read alike by POSIX sh, docker compose and python-dotenv.  `&` ends a command and `~` is expanded in sh.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,?-]+")


def render_value(value: str) -> str:
    """Write a value for the right side of ``KEY=``.

    Plain where POSIX sh, docker compose and python-dotenv read the plain text alike; otherwise in single quotes; in
    double quotes with ``\\\\`` and ``\\"`` when single quotes cannot hold it (a single quote, a backslash that would
    be read as an escape).  No style keeps python-dotenv's default interpolation off a ``${NAME}``, and in double
    quotes a shell expands ``$`` as well.

    Args:
        value: the value as readers shall get it.

    Raises:
        DotenvError: the value has a newline, a NUL, or a character that UTF-8 cannot encode.
    """
    return render(value, "", None)


def render(value: str, quote: Quote, prefer: Quote | None) -> str:
    """Write a value in the style of `quote` if that can hold it; `prefer` is the mark to use for new quotes."""
    if "\n" in value or "\r" in value:
        raise DotenvError("a value must be one line")
    if "\0" in value:
        raise DotenvError("a value must not have a NUL")
    encode(value)
    if quote == "" and _PLAIN.fullmatch(value):
        return value
    # In single quotes a backslash before a backslash, a quote or the end is an escape for python-dotenv only.
    fits_single = "'" not in value and "\\\\" not in value and not value.endswith("\\")
    if prefer == '"':
        single = False
    elif prefer == "'" or quote != '"':
        single = fits_single
    else:
        single = fits_single and ("$" in value or "`" in value)
    if single:
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
