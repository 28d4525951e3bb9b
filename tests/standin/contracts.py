"""hatchet-sdk's generated protocol classes, without the second that importing hatchet-sdk itself takes.

The package's own ``__init__`` is never run: an empty module with the package's path stands in its place, which is
enough for the modules of ``hatchet_sdk.contracts`` to find each other.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def _without_package_code(name: str) -> None:
    if name not in sys.modules:
        found = importlib.util.find_spec(name)
        if found is None or found.submodule_search_locations is None:
            raise ModuleNotFoundError(f"{name} is needed by the stand-in for hatchet-lite")
        module = ModuleType(name)
        module.__path__ = list(found.submodule_search_locations)
        sys.modules[name] = module


_without_package_code("hatchet_sdk")

dispatcher_pb2 = importlib.import_module("hatchet_sdk.contracts.dispatcher_pb2")
dispatcher_pb2_grpc = importlib.import_module("hatchet_sdk.contracts.dispatcher_pb2_grpc")
events_pb2 = importlib.import_module("hatchet_sdk.contracts.events_pb2")
events_pb2_grpc = importlib.import_module("hatchet_sdk.contracts.events_pb2_grpc")
workflows_pb2 = importlib.import_module("hatchet_sdk.contracts.workflows_pb2")
workflows_pb2_grpc = importlib.import_module("hatchet_sdk.contracts.workflows_pb2_grpc")
v1_dispatcher_pb2 = importlib.import_module("hatchet_sdk.contracts.v1.dispatcher_pb2")
v1_dispatcher_pb2_grpc = importlib.import_module("hatchet_sdk.contracts.v1.dispatcher_pb2_grpc")
v1_workflows_pb2 = importlib.import_module("hatchet_sdk.contracts.v1.workflows_pb2")
v1_workflows_pb2_grpc = importlib.import_module("hatchet_sdk.contracts.v1.workflows_pb2_grpc")
