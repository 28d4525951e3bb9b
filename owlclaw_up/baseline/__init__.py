"""Alembic scripts for a project that has none of its own: one revision that makes nothing."""
