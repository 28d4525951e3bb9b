"""Where the command begins: `owlclaw-up`, and `python -m owlclaw_up`."""

import sys


def run() -> None:
    """The entry point of the installed command."""
    try:
        from owlclaw_up.cli.main import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        # While the command is still being loaded, or already leaving: nothing has been begun, or all is said.
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
