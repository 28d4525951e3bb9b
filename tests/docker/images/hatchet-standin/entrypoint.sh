#!/bin/bash
# The stages of the real image: migrations or nothing, then keys and tenant as well as they can be had, then the engine.
if ! ./hatchet-migrate; then
  echo "Migration script failed. Exiting..."
  exit 1
fi
./hatchet-admin quickstart --skip certs --generated-config-dir ./config --overwrite=false
exec ./hatchet-lite --config ./config
