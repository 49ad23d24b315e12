"""`python -m tunesmith.launch`: the child that becomes a trainer (see `launch.child`)."""

import sys

from tunesmith.launch.child import main

if __name__ == "__main__":
    main(sys.argv[1:])
