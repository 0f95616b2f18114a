"""One function per thing a user can do; the command line, the screens and the Python API call only these."""
