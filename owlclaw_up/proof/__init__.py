"""The smoke test: a real worker in its own process, asked through the engine for real work."""
