"""`python -m tunesmith.kernels`: compiles what serving needs, so that the first model is not the one to wait for it."""

import numpy

from tunesmith.kernels.forward import work
from tunesmith.kernels.job import COUNTER_BYTES, JOB, LAYER, LINE
from tunesmith.kernels.team import Team


def main() -> None:
    """A step of a model without layers, over no tokens."""
    jobs, layers, lines = numpy.zeros(1, JOB), numpy.zeros(1, LAYER), numpy.zeros(1, LINE)
    counters = numpy.zeros(COUNTER_BYTES, numpy.uint8)
    team = Team(1, lambda member: None)
    jobs["team"], jobs["counters"] = team.address, counters.ctypes.data
    work(0, 1, jobs, layers, lines)
    team.close()


main()
