"""The images out of a folder made by `prefetch`, into Docker. Like images that were pulled, they stay when everything goes."""

from __future__ import annotations

from owlclaw_up.errors import BundleUnusable, DockerRefused
from owlclaw_up.facts import Facts
from owlclaw_up.host.bundle_base import BundledImage
from owlclaw_up.host.docker_base import Docker
from owlclaw_up.host.docker_words import pull_failure
from owlclaw_up.model import Action, Change, Transfer, found, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import ComposeSpec
from owlclaw_up.steps.base import Applied, Run


class LoadImages:
    """Have the images of the folder on the Docker engine; what is there already is not loaded again."""

    id = "images.load"
    title = "Images"

    def __init__(self, compose: ComposeSpec, ledger: Ledger) -> None:
        self.compose, self.ledger = compose, ledger

    def check(self, facts: Facts) -> Change:
        docker = found(facts.docker)
        seen = docker.images if docker else {}
        missing = [name for name in self.compose.bundled if seen.get(name) is None]
        if not missing:
            return unchanged(f"{' and '.join(self.compose.bundled)} on this machine")
        folder = self.compose.bundled[missing[0]].bundle.folder
        return Change(
            Action.RUN, f"load {' and '.join(missing)} from {folder}", touches=tuple(f"image {m}" for m in missing)
        )

    def apply(self, run: Run) -> Applied:
        docker = run.host.docker(self.compose.docker.address)
        missing = [name for name in self.compose.bundled if docker.image(name) is None]
        with run.at_its_own_pace():
            digests = {name: self._load(run, docker, self.compose.bundled[name]) for name in missing}
        self.ledger.keep("images", **digests)
        return Applied(Action.RUN, f"loaded {' and '.join(missing)}" if missing else "on this machine")

    def _load(self, run: Run, docker: Docker, bundled: BundledImage) -> str:
        from owlclaw_up.host.bundle import verified

        image, bundle = bundled.image, bundled.bundle
        file, short = bundle.file(image.file), image.name.rpartition("/")[2]
        assert file is not None
        run.say(f"verifying {short}")
        with verified(bundle, file) as archive:
            run.say(f"loading {short}")
            try:
                docker.load(archive, lambda done: run.tell(Transfer(self.id, short, done, file.size)))
            except DockerRefused as error:
                full = pull_failure(error.detail) == "disk-full"
                why = "the disk of the Docker engine is full" if full else error.detail.splitlines()[0][:200]
                raise self._refused(bundled, why, error.detail, full=full) from None
        look = docker.image(image.name)
        if look is None:
            raise self._refused(bundled, f"it was loaded, and there is no {image.name} now", "")
        return look.digest

    def _refused(self, bundled: BundledImage, why: str, words: str, *, full: bool = False) -> BundleUnusable:
        path = bundled.bundle.folder / bundled.image.file
        hint = "docker system df; docker system prune" if full else f"docker load -i {path}"
        return BundleUnusable("bundle-load", f"Docker did not load {path}: {why}", hint=hint, detail=words)
