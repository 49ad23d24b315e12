"""The four formats of an export: checked, written to a temporary folder, renamed."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.export.folder import new_folder
from tunesmith.export.gguf_file import FILE, GgufPlan, plan_gguf, write_gguf
from tunesmith.export.kinds import Kind, Width
from tunesmith.export.merged import Told, merged_bytes, updates_of, write_merged
from tunesmith.export.modelfile import write_modelfile
from tunesmith.export.peft_folder import check_adapter, peft_bytes, write_peft
from tunesmith.export.tuned_model import TunedModel


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export."""

    model: TunedModel
    kind: Kind
    folder: Path
    plan: GgufPlan | None = None  # of a GGUF file

    @property
    def gguf(self) -> Path:
        """The GGUF file, where the kind has one."""
        return self.folder / FILE

    @property
    def files(self) -> list[Path]:
        """All files in the folder."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def export_bytes(model: TunedModel, kind: Kind, width: Width) -> int:
    """How many bytes `export` would write.

    Raises InvalidRequest where the model cannot be written so.
    """
    if kind == "peft":
        check_adapter(model)
        return peft_bytes(model)
    return merged_bytes(model) if kind == "safetensors" else plan_gguf(model, width).bytes


def export(
    model: TunedModel,
    kind: Kind,
    target: Path,
    told: Told,
    *,
    width: Width = "auto",
    system_message: str | None = None,
) -> Exported:
    """Writes the model to the new folder `target`.

    Raises InvalidRequest before anything is written where the model cannot be written so, `target` exists or the disk
    has no room.
    """
    if kind == "peft":
        check_adapter(model)
        with new_folder(target, peft_bytes(model)) as folder:
            write_peft(model, folder, told)
        return Exported(model, kind, target)
    if kind == "safetensors":
        updates_of(model)
        with new_folder(target, merged_bytes(model)) as folder:
            write_merged(model, folder, told)
        return Exported(model, kind, target)
    plan = plan_gguf(model, width)
    with new_folder(target, plan.bytes) as folder:
        write_gguf(plan, folder / FILE, told)
        if kind == "ollama":
            write_modelfile(model, folder, FILE, system_message)
    return Exported(model, kind, target, plan)
