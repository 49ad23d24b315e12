"""`python -m tunesmith.worker`: see `process.main`."""

import sys

from tunesmith.worker.process import main

if __name__ == "__main__":
    main(sys.argv[1:])
