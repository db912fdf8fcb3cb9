"""Generated videos with labelled questions, and a file server that gives them URLs."""
