"""The demo: generated videos with labelled questions, and a file server that serves them at URLs."""
