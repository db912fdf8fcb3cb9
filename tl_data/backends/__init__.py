"""Backends, one module each: `register(target, connection)` creates the functions."""
