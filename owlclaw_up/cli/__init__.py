"""The command line: parse, call the façade, show. Nothing else happens here."""
