"""One view per reader: `human` (text) and `machine` (JSON). Both render the same `Outcome`; nothing else prints."""
