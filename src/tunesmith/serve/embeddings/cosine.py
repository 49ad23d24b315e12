"""The metric `cosine`, where the setting `embedding_model` names a model.

Imports torch when texts are compared.
"""

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.graders.cosine import COSINE, NO_MODEL, Cosine, without_model
from tunesmith.graders.grader import Grader, TextSimilarity, leaves
from tunesmith.graders.similarity import METRICS
from tunesmith.serve.embeddings.layout import read_layout
from tunesmith.settings import Settings


def cosine_of(settings: Settings) -> Cosine:
    """What compares two texts; loads the model when it is first asked."""
    directory = settings.embedding_model
    if directory is None:
        return without_model

    def cosine(text: str, reference: str, /) -> float:
        from tunesmith.serve.embeddings.embedder import open_embedder

        return open_embedder(directory.expanduser()).cosine(text, reference)

    return cosine


def check_cosine(grader: Grader, settings: Settings) -> None:
    """Raises InvalidRequest for `cosine` where there is no model for it; loads none."""
    for leaf in leaves(grader).values():
        if isinstance(leaf, TextSimilarity) and leaf.metric == COSINE:
            _check_model(settings, leaf.param)


def _check_model(settings: Settings, param: str) -> None:
    if settings.embedding_model is None:
        raise InvalidRequest(f"{NO_MODEL}: {', '.join(METRICS)}. - '{param}'", param=param, code="unsupported_value")
    try:
        read_layout(settings.embedding_model.expanduser())
    except ServerFault as fault:
        message = f"The metric cosine is not available: {fault.message} - '{param}'"
        raise InvalidRequest(message, param=param, code="unsupported_value") from fault
