"""Limits of OpenAI's API that more than one room holds to.

Imports nothing, so that light processes may read it.
"""

MAX_EPOCHS = 50
MAX_BATCH_SIZE = 256
MAX_BETA = 2.0
MAX_TOOLS = 128
