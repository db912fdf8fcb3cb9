"""The embedded engine: a server with the HTTP API of the service, which analyzes videos on this machine.

The engine imports no code of the client: they communicate over HTTP only. The engine works in stages, each
with a typed result. The analysis of a video gives evidence: objects, text, speech and sound, with times. The
later stages make words from the evidence, and vectors from the words.
"""
