"""Which tokens of a row the model learns, in colour."""

from collections.abc import Iterable

from rich.text import Text

from tunesmith.check.report.mask_preview import Preview, visible
from tunesmith.cli.output.terminal import out, plural


def print_mask(previews: Iterable[Preview]) -> None:
    """Prints rows with the learned text in green between ⟦ ⟧ and everything else dim."""
    console = out()
    console.print("\nThe model learns the text in [green]⟦green⟧[/green]; it only reads the rest.")
    for preview in previews:
        title = f" ({preview.title})" if preview.title else ""
        console.print(f"\n[bold]line {preview.line}[/bold]{title}")
        console.print(_marked(preview))


def _marked(preview: Preview) -> Text:
    text = Text()
    text.append(preview.note, style="red")
    for span in preview.spans:
        shown = visible(span.text)
        text.append(f"⟦{shown}⟧" if span.learned else shown, style="green" if span.learned else "dim")
    if preview.cut_tokens:
        text.append(f"\n… {plural(preview.cut_tokens, 'token')} cut off at the limit", style="yellow")
    return text
