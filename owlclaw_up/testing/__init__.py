"""What the pytest plugin is made of; see `owlclaw_up.pytest_plugin`."""

# How every text begins that says why a test which wants an engine has none.
NO_ENGINE = "no Hatchet engine"
