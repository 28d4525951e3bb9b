"""Measurements of owlclaw-up, beside the same work done by hand."""
