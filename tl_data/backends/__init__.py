"""One module an engine, each of the same shape: `register(target, connection)` prints the catalog into it."""
