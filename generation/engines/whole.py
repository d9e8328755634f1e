"""Whether the weights of a folder are all there: told from their first bytes, before anything is loaded."""

import json
import struct
from pathlib import Path

from generation.engines.loading import check_model_directory
from generation.engines.values import EngineError

INDEX = "model.safetensors.index.json"


def require_whole(directory: Path) -> None:
    """Raise EngineError if `directory` is no causal model's, or a file of its weights is missing, torn or cut off.

    A copy that was interrupted looks like a model until it is loaded. Formats: the header of a .safetensors file
    says where its last tensor ends; model.safetensors.index.json names the files of weights in several.
    """
    check_model_directory(directory)
    for name in named_files(directory):
        if not (directory / name).is_file():
            raise EngineError(f"{directory} lacks {name}, which its index names. Copy the model again.")
    for path in sorted(directory.glob("*.safetensors")):
        wanted, there = whole_size(path), path.stat().st_size
        if there != wanted:
            raise EngineError(f"{path} is cut off or torn: it has {there} bytes of {wanted}. Copy the model again.")


def named_files(directory: Path) -> list[str]:
    """The files of weights that the folder's index names; none without an index. Raises EngineError."""
    index = directory / INDEX
    if not index.exists():
        return []
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{index} cannot be read ({error}). Copy the model again.") from error


def whole_size(path: Path) -> int:
    """Bytes that the file must have. Raises EngineError."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error) as error:
        raise EngineError(f"{path} holds no weights ({error}). Copy the model again.") from error
    return 8 + length + max(ends, default=0)
