"""Weight files as they are found: safetensors, torch pickles, folders. Read into arrays by torch name."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import InputError, nearest
from jaxtl.notices import say
from jaxtl.pretrained.checkpoint import Checkpoint

PICKLES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
"""Where training scripts keep the running average of the weights, which is what they evaluate; timm prefers it too."""

NESTING = (*AVERAGED, "state_dict", "model", "model_state_dict", "net", "network", "module")
_COUNT_OF_AVERAGE = "n_averaged"  # beside the weights in torch.optim.swa_utils.AveragedModel
INDEX = ".safetensors.index.json"
"""Ending of the file that says which tensor is in which of a model's several files."""

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.")


class Safetensors(Mapping[str, np.ndarray]):
    """The tensors of one or several ``.safetensors`` files by name, without wrappers' prefixes, each read when asked
    for.

    A file is mapped into memory anew for each of them: pages of a map that stays count as memory in use.
    """

    def __init__(self, *paths: Path):
        from safetensors import SafetensorError

        shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Path] = {}
        for path in paths:
            try:
                with self._open(path) as file:
                    keys = file.keys()
                    shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in keys}
                    self._files |= dict.fromkeys(keys, path)
            except (SafetensorError, OSError) as error:
                raise InputError(
                    f"{path} is no whole safetensors file ({error}); it may have been cut off: fetch or write it again"
                ) from error
        self._names = without_prefixes(shapes)
        self._shapes = {name: shapes[key] for name, key in self._names.items()}

    def _open(self, path: Path) -> Any:
        from safetensors import safe_open

        return safe_open(str(path), framework="numpy")

    def __getitem__(self, name: str) -> np.ndarray:
        key = self._names[name]
        path = self._files[key]
        with self._open(path) as file:
            try:
                return file.get_tensor(key)
            except (AttributeError, TypeError) as error:  # numpy has no such numbers
                raise InputError(
                    f"{path}: {name} holds numbers of the kind {file.get_slice(key).get_dtype()}, which are not read; "
                    "store float32, float16 or bfloat16"
                ) from error

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor, from the files' headers."""
        return self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _parts(index: Path) -> list[Path]:
    """The files that an index of a model in several ``.safetensors`` files names, in order."""
    try:
        files = dict.fromkeys(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        parts = [index.parent / Path(str(file)).name for file in files]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is no index of safetensors files: it holds no object weight_map of names") from error
    if lacking := [part.name for part in parts if not part.is_file()]:
        raise InputError(f"{index.parent} lacks {', '.join(lacking)}, which {index.name} names; fetch the whole folder")
    return parts


def find(path: Path) -> Path:
    """The weight file that a path means: itself, or the one inside a folder."""
    if path.is_file():
        if path.name.endswith(INDEX):
            return path
        if part := _PART.search(path.name):
            raise InputError(
                f"{path} is file {int(part[1])} of {int(part[2])} of one model; name the folder that holds all of them "
                f"and their index, *{INDEX}"
            )
        if path.suffix not in (".safetensors", *PICKLES):
            raise InputError(f"{path} is no weight file; known endings: .safetensors, {', '.join(PICKLES)}")
        return path
    if not path.exists():
        beside = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"no weight file or folder {path}{nearest(str(path), beside)}")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    if len(indices := sorted(path.glob(f"*{INDEX}"))) == 1:
        return indices[0]
    candidates = sorted(path.glob("*.safetensors"))
    if any(_PART.search(file.name) for file in candidates):
        raise InputError(f"{path} holds files of one model without their index, *{INDEX}; fetch that as well")
    if len(candidates) == 1:
        return candidates[0]
    count = "several" if candidates else "no"
    raise InputError(f"{path} holds {count} .safetensors files and no model.safetensors; name the file itself")


def read(path: Path) -> Mapping[str, np.ndarray]:
    """Arrays by torch name. Nested checkpoints are unwrapped and wrappers' prefixes stripped.

    Raises:
        InputError: no such file, another format, a damaged file, or a torch pickle where torch is not installed.
    """
    file = find(path)
    if file.name.endswith(INDEX):
        return Safetensors(*_parts(file))
    return Safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)


def read_pickle(path: Path) -> dict[str, np.ndarray]:
    """The state dict in a torch file, read with ``weights_only=True``: no code in it is run."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} is a torch pickle and torch is not installed; run: pip install 'jaxtl[timm]', "
            "or convert the file to safetensors where torch is"
        ) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the settings in the checkpoints of timm's script
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler fails in any way on what is no torch file
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].partition(". ")[0]
        raise InputError(
            f"{path} cannot be read as torch weights ({reason}); only plain tensors are accepted, never code: "
            "save model.state_dict() and try again"
        ) from error
    return arrays_of(content, str(path))


def arrays_of(content: Any, where: str) -> Checkpoint:
    """Numpy arrays of a torch state dict, however nested and prefixed.

    >>> arrays_of({"state_dict": {"module.fc.bias": np.zeros(2)}, "epoch": 3}, "a checkpoint")
    {'fc.bias': array([0., 0.])}
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where} holds a {type(content).__name__}, not a state dict of names and tensors")
    keys, state = _state_in(content)
    if not state:
        raise InputError(
            f"{where} holds no state dict: expected names with tensors, or one nested under "
            f"{', '.join(NESTING)}; found the keys {sorted(map(str, content))[:8]}"
        )
    if keys and keys[0] in AVERAGED and any(_state_in(content.get(key))[1] for key in NESTING if key not in AVERAGED):
        say(f"{where} holds weights and their running average; the average, {keys[0]!r}, is taken")
    for key in content:
        if (
            "ema" in str(key).lower()
            and key not in (*keys, *AVERAGED)
            and len(_state_in(content[key])[1]) >= len(state)
        ):
            say(f"{where} holds weights under {key!r} as well, perhaps their running average; {keys[0]!r} is taken")
    arrays = {str(name): to_numpy(value) for name, value in state.items()}
    arrays.pop(_COUNT_OF_AVERAGE, None)
    found = Checkpoint((name, arrays[stored]) for name, stored in without_prefixes(arrays).items())
    return found.tell(content)


def _state_in(content: Any) -> tuple[tuple[str, ...], dict[Any, Any]]:
    """The arrays by name in a state dict, however nested, and the keys that lead to it; none where there is none."""
    if not isinstance(content, Mapping):
        return (), {}
    for key in NESTING:
        keys, state = _state_in(content.get(key))
        if state:
            return (key, *keys), state
    return (), {name: value for name, value in content.items() if _is_array(value)}


def without_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Name without the prefixes that wrappers put before every name -> name as stored.

    >>> without_prefixes(["_orig_mod.module.fc.bias", "_orig_mod.module.fc.weight"])
    {'fc.bias': '_orig_mod.module.fc.bias', 'fc.weight': '_orig_mod.module.fc.weight'}
    """
    stored = {name: name for name in names}
    while stored and (prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in stored)), None)):
        stored = {name.removeprefix(prefix): original for name, original in stored.items()}
    return stored


def inside(module: Any, state: Iterable[str]) -> Any:
    """The part of a torch module that is the network, where wrappers put a prefix before every name of its state."""
    for name, stored in without_prefixes(name for name in state if name != _COUNT_OF_AVERAGE).items():
        for part in filter(None, stored.removesuffix(name).split(".")):
            module = getattr(module, part, module)
        break
    return module


def to_numpy(value: Any) -> np.ndarray:
    """A numpy array of a torch tensor (any device, bfloat16 as float32) or of an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy()
    return np.asarray(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
