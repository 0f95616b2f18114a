"""`python -m nexa_core` is `nexa`."""

from nexa_core.cli import main

if __name__ == "__main__":
    main()
