"""Limits of OpenAI's API that more than one room holds to.

Imports nothing, so that light processes may read it.
"""

MAX_EPOCHS = 50
MAX_BATCH_SIZE = 256
MAX_BETA = 2.0
MAX_MULTIPLIER = 1000.0  # of the base learning rate; OpenAI names no bound, but more can only be a mistake
MAX_TOOLS = 128
