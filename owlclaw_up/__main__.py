"""Where the command begins: `owlclaw-up`, and `python -m owlclaw_up`."""

import gc
import sys

# A command lives for a second or two, and nearly all that it loads stays: looking for garbage in it takes a tenth of that.
_OBJECTS = 50_000


def run() -> None:
    """The entry point of the installed command."""
    gc.set_threshold(_OBJECTS)
    try:
        from owlclaw_up.cli.main import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        # While the command is still being loaded, or already leaving: nothing has been begun, or all is said.
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
