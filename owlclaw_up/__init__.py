"""owlclaw-up: bring an OwlClaw development environment up with one command, and prove that it works.

    import owlclaw_up
    outcome = owlclaw_up.up(mode="native")
    outcome.status, outcome.endpoints["dashboard"]

Every function takes `project_dir` and the settings of docs/reference/settings.md as keywords, and returns an `Outcome`
(`owlclaw_up.model`); expected errors are in `outcome.error`, never raised.

For pytest, which would complain where this was imported before it: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from owlclaw_up.errors import UpError
    from owlclaw_up.model import Outcome

__version__ = "0.1.0"
__all__ = ["__version__", "diagnose", "down", "plan", "status", "up"]


def up(project_dir: str | Path | None = None, **settings: Any) -> Outcome:
    """Bring the environment up and prove it, as `owlclaw-up up` does.

    Args:
        project_dir: the project; by default the nearest parent of the working directory with pyproject.toml or .git.
        settings: values by setting name, as for flags.
    """
    return _call("up", project_dir, settings, {})


def plan(project_dir: str | Path | None = None, **settings: Any) -> Outcome:
    """What `up` would do, changing nothing; arguments as for `up`."""
    return _call("up", project_dir, settings, {"dry_run": True, "command": "plan"})


def down(project_dir: str | Path | None = None, *, purge: bool = False, **settings: Any) -> Outcome:
    """Stop what `up` started; with `purge`, remove what it made. Arguments as for `up`."""
    return _call("down", project_dir, settings, {"purge": purge})


def status(project_dir: str | Path | None = None, **settings: Any) -> Outcome:
    """What runs, where, since when; arguments as for `up`."""
    return _call("status", project_dir, settings, {})


def diagnose(
    project_dir: str | Path | None = None, *, only: Collection[str] = (), strict: bool = False, **settings: Any
) -> Outcome:
    """Every check of the doctor's, in `outcome.findings`; arguments as for `up`.

    Args:
        only: ids of the checks to run (docs/reference/faults.md); all where empty.
        strict: whether warnings, and what could not be looked at, fail too.
    """
    from owlclaw_up import doctor

    return _call("doctor", project_dir, settings, {"only": only, "strict": strict}, doctor.diagnose, doctor.of_failure)


def _call(
    name: str, project_dir: str | Path | None, settings: dict[str, Any], extra: dict[str, Any],
    command: Callable[..., Outcome] | None = None, failed: Callable[[UpError], Outcome] | None = None,
) -> Outcome:  # fmt: skip
    # Imported here: `import owlclaw_up` alone costs nothing.
    from owlclaw_up import environment
    from owlclaw_up.errors import UpError, UsageError

    unknown = [key for key in settings if key not in _setting_names()]
    try:
        if unknown:
            raise UsageError(f"there is no setting {unknown[0]!r}", hint="docs/reference/settings.md lists every one")
        project = environment.open_project(Path(project_dir) if project_dir is not None else None, settings)
    except UpError as error:
        return failed(error) if failed else environment.failure(None, name, error, 0.0)
    outcome: Outcome = (command or getattr(environment, name))(project, **extra)
    if name == "up" and outcome.exit_code and not extra:
        from owlclaw_up.doctor import explain

        return explain(project, outcome)
    return outcome


def _setting_names() -> tuple[str, ...]:
    from owlclaw_up.settings import KEYS

    return KEYS
