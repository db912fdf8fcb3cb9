"""Videos to try the package on, made here, with labelled questions, and a server that gives them URLs."""
