"""The revisions of the baseline."""
