"""Who shadows whom: places whose values win over the dotenv file, as findings. Pure; no value is ever shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from owlclaw_up.facts.dotenv import SHELL, meant
from owlclaw_up.facts.values import EnvPlace, EnvPlaces
from owlclaw_up.model import Finding


def written_values(places: EnvPlaces) -> dict[str, str]:
    """What the dotenv file itself says, by key."""
    return {meant(place.key): place.value.reveal() for place in places.written}


def winners(places: EnvPlaces, wanted: Mapping[str, str]) -> list[EnvPlace]:
    """The places that give a program another value than the wanted one, the strongest first.

    What stands below a place with the wanted value decides nothing.
    """
    won: list[EnvPlace] = []
    settled: set[str] = set()
    for place in places.over:
        key = meant(place.key)
        if key in settled or key not in wanted:
            continue
        if place.value.reveal() == wanted[key]:
            settled.add(key)
        else:
            won.append(place)
    return won


def shadow_findings(
    places: EnvPlaces, env_path: Path, wanted: Mapping[str, str] | None = None
) -> tuple[Finding, ...]:  # fmt: skip
    """One finding per place that wins, one for keys that stand twice in the file, and one for a file nobody reads from here.

    Args:
        env_path: the dotenv file.
        wanted: the values that programs should get, by key; those of the dotenv file where left out.
    """
    wanted = written_values(places) if wanted is None else wanted
    by_place: dict[str, list[EnvPlace]] = {}
    for place in winners(places, wanted):
        by_place.setdefault(place.where, []).append(place)
    findings = [_wins(where, won, env_path.name) for where, won in by_place.items()]
    findings += _twice(places.written, wanted, env_path.name)
    if places.elsewhere is not None and wanted:
        findings.append(
            Finding(
                "env.elsewhere", "info", f"a program that is started in {places.elsewhere} does not read {env_path}",
                "hatchet-sdk looks in the working directory only", f"start it in {env_path.parent}",
            )
        )  # fmt: skip
    return tuple(findings)


def _wins(where: str, won: Sequence[EnvPlace], name: str) -> Finding:
    keys = [place.key for place in won]
    what = won[0].text if len(won) == 1 else where
    title = f"{keys[0]} in {what} wins over {name}" if len(won) == 1 else f"{len(won)} keys in {where} win over {name}"
    listed = ", ".join(p.key if p.line is None else f"{p.key} (line {p.line})" for p in won)
    empty = [place.key for place in won if not place.value]
    detail = "programs read what stands there" + (f": {listed}" if len(won) > 1 else "")
    if empty:
        detail += f"; empty, which counts as well: {', '.join(empty)}"
    if where == SHELL:
        mend = f"unset {' '.join(keys)}"
        return Finding("env.shadow", "warn", title, detail, mend, mend)
    return Finding("env.shadow", "warn", title, detail, f"remove {_lines(won)} of {where}")


def _twice(written: Sequence[EnvPlace], wanted: Mapping[str, str], name: str) -> list[Finding]:
    last = {meant(place.key): place for place in written}
    idle = [
        place
        for place in written
        if place is not last[meant(place.key)]
        and place.value.reveal() != wanted.get(meant(place.key), last[meant(place.key)].value.reveal())
    ]
    if not idle:
        return []
    keys = ", ".join(dict.fromkeys(meant(place.key) for place in idle))
    counts = ", ".join(dict.fromkeys(str(last[meant(place.key)].line) for place in idle))
    return [
        Finding(
            "env.duplicates", "warn", f"{name} has more than one {keys}: the last one counts (line {counts})",
            f"nobody reads {_lines(idle)}", f"remove {_lines(idle)} of {idle[0].where}",
        )
    ]  # fmt: skip


def _lines(places: Sequence[EnvPlace]) -> str:
    numbers = ", ".join(str(place.line) for place in places)
    return f"line{'s' if len(places) > 1 else ''} {numbers}"
