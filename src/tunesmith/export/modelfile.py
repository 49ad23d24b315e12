"""An Ollama Modelfile: template, stop texts and the API's defaults for sampling."""

from pathlib import Path

from tunesmith.export.go_template import go_template
from tunesmith.export.tuned_model import TunedModel
from tunesmith.models.directory import context_length
from tunesmith.render.chat_template import find_template, read_object, special_tokens
from tunesmith.render.renderer import Renderer, load_renderer

FILE = "Modelfile"
MOST_CONTEXT = 8192  # tokens; the memory that Ollama reserves grows with it
# The API's defaults. Ollama's own are temperature 0.8, top_k 40, top_p 0.9 and a penalty of 1.1 on repetitions.
DEFAULTS = ("temperature 1", "top_p 1", "top_k 0", "min_p 0", "repeat_penalty 1")
NO_TEMPLATE = "# TEMPLATE is left out: this base's chat template could not be written in Go exactly.\n"


def modelfile(model: TunedModel, gguf_name: str, system_message: str | None = None) -> str:
    """The text of a Modelfile for the GGUF file of this name.

    `system_message`: the one that the model was trained with; it stands in a comment, since the server adds none.
    """
    renderer = load_renderer(model.base_dir)
    template = ollama_template(model.base_dir)
    parts = [f"# {model.name}, exported by Tunesmith. Create it in Ollama: ollama create NAME -f {FILE}\n"]
    parts.append(f"FROM ./{gguf_name}\n")
    parts.append(NO_TEMPLATE if template is None else f'TEMPLATE """{template}"""\n')
    parts += [f'PARAMETER stop "{stop}"\n' for stop in stop_texts(renderer)]
    parts += [f"PARAMETER {one}\n" for one in DEFAULTS]
    parts.append(f"PARAMETER num_ctx {min(context_length(model.base_dir), MOST_CONTEXT)}\n")
    if system_message:
        lines = "".join(f"#   {line}\n" for line in system_message.splitlines())
        parts.append(
            f"# Most of its training rows have this system message; send it, or write it after SYSTEM:\n{lines}"
        )
    return "".join(parts)


def ollama_template(base_dir: Path) -> str | None:
    """The base's chat template in Go; None where it was not found to be exact."""
    template = find_template(base_dir)
    if template is None:
        return None
    begin = special_tokens(read_object(base_dir / "tokenizer_config.json")).get("bos_token", "")
    return go_template(template, begin if _begins(base_dir, begin) else "")


def _begins(base_dir: Path, begin: str) -> bool:
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(base_dir / "tokenizer.json")).encode("a").tokens
    return bool(begin) and tokens[:1] == [begin]


def stop_texts(renderer: Renderer) -> list[str]:
    """The tokens that end an answer, as texts."""
    return [renderer.token_text(token) for token in sorted(renderer.eos_ids)]


def write_modelfile(model: TunedModel, folder: Path, gguf_name: str, system_message: str | None) -> None:
    """Writes the Modelfile."""
    (folder / FILE).write_text(modelfile(model, gguf_name, system_message), encoding="utf-8")
