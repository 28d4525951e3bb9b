"""Names of images: where a mirror has them, how they come apart; what the step would do."""

from __future__ import annotations

import pytest

from owlclaw_up.host.docker import split_reference
from owlclaw_up.host.image_names import on_mirror

DIGEST = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1"


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("pgvector/pgvector:pg16", "mirror.test/pgvector/pgvector:pg16"),
        ("postgres:17", "mirror.test/library/postgres:17"),
        ("postgres", "mirror.test/library/postgres"),
        ("docker.io/pgvector/pgvector:pg16", "mirror.test/pgvector/pgvector:pg16"),
        ("docker.io/postgres:17", "mirror.test/library/postgres:17"),
        ("docker.io/library/postgres:17", "mirror.test/library/postgres:17"),
        ("ghcr.io/hatchet-dev/hatchet/hatchet-lite:v1", "mirror.test/hatchet-dev/hatchet/hatchet-lite:v1"),
        ("quay.io/lite:1", "mirror.test/lite:1"),
        ("localhost/a/b:1", "mirror.test/a/b:1"),
        ("127.0.0.1:5000/a:1", "mirror.test/a:1"),
        ("registry:5000/a/b", "mirror.test/a/b"),
        # No name could be given to it afterwards, so it comes from where it is named.
        (f"pgvector/pgvector@{DIGEST}", f"pgvector/pgvector@{DIGEST}"),
        (f"ghcr.io/a/b:1@{DIGEST}", f"ghcr.io/a/b:1@{DIGEST}"),
    ],
)
def test_where_a_mirror_has_it(reference: str, there: str) -> None:
    for mirror in ("mirror.test", "mirror.test/", "https://mirror.test", "http://mirror.test/"):
        assert on_mirror(reference, mirror) == there
    assert on_mirror(reference, "") == reference


def test_a_mirror_may_be_a_folder_of_a_registry() -> None:
    assert on_mirror("ghcr.io/a/b:1", "https://registry.test:5000/cache/") == "registry.test:5000/cache/a/b:1"


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("postgres", "postgres", "latest"),
        ("postgres:17", "postgres", "17"),
        ("pgvector/pgvector:pg16", "pgvector/pgvector", "pg16"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", "latest"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b", "1"),
        (f"ghcr.io/a/b@{DIGEST}", "ghcr.io/a/b", DIGEST),
        (f"ghcr.io/a/b:1@{DIGEST}", "ghcr.io/a/b:1", DIGEST),
    ],
)
def test_a_reference_comes_apart(reference: str, name: str, tag: str) -> None:
    assert split_reference(reference) == (name, tag)
