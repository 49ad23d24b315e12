"""The metric `cosine`: how alike two texts are to an embedding model.

The model is not of this room: who runs a grader hands in what compares two texts.
"""

from typing import Protocol

from tunesmith.errors import ServerFault

COSINE = "cosine"
NO_MODEL = (
    "The metric cosine needs an embedding model, and this server has none. Set embedding_model to the folder of one "
    "(TUNESMITH_EMBEDDING_MODEL=/models/all-MiniLM-L6-v2) and restart the server, or use another metric"
)


class Cosine(Protocol):
    """Compares two texts by their embeddings."""

    def __call__(self, text: str, reference: str, /) -> float:
        """From 0 to 1. Raises ServerFault where the model cannot be used."""
        ...


def without_model(text: str, reference: str, /) -> float:
    """Raises ServerFault: there is no model to ask."""
    raise ServerFault(f"{NO_MODEL}.")
