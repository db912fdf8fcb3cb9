"""The embedded engine: the same HTTP API as the service, answered by looking at and listening to the video.

It shares no code with the client and is reached over HTTP only. Its stages, each a small module with one
typed result: evidence (objects, text, speech and sound, with times) -> words -> vectors.
"""
