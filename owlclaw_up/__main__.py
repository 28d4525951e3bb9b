"""`python -m owlclaw_up`."""

from owlclaw_up.cli.main import run

if __name__ == "__main__":
    run()
