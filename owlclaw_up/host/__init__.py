"""The only doors out of owlclaw-up: files, processes, ports, PostgreSQL, Hatchet. One family of libraries per file."""
