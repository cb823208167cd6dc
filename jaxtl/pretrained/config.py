"""`config.json`, the file beside the weights that says which network they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from jaxtl.data.answers import TASKS
from jaxtl.errors import InputError, printable

CONFIG = "config.json"
_OWN_FIELDS = ("architecture", "num_features", "pretrained_cfg", "model_args", "label_names")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Reads and checks the `config.json` of a model folder, as timm and jaxtl write it.

    Args:
        folder: The folder that holds `config.json` (`hub.fetch` returns one).

    Returns:
        The whole file as a dict. These keys are always there: `architecture` (str), `num_classes` (int, 0 for a network
        without a head), `pretrained_cfg` (dict), `model_args` (dict) and `label_names`
        (list of `num_classes` strings, or None).

    Raises:
        InputError: the file is missing, is not JSON, or has wrong fields; every wrong field is named at once.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "config.json").write_text('{"architecture": "resnet18", "num_classes": 2}')
    >>> read_config(folder)["model_args"]
    {}
    >>> _ = (folder / "config.json").write_text('{"num_classes": "two"}')
    >>> read_config(folder)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: ...: architecture is missing; num_classes must be a whole number, not 'two'
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no config.json, so the network of its weights is unknown") from None
    except ValueError as error:
        raise InputError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(config).__name__}")

    if config.get("pretrained_cfg") is None:  # timm's first uploads keep its fields on the top level
        config["pretrained_cfg"] = {key: value for key, value in config.items() if key not in _OWN_FIELDS}
    pretrained_cfg = config["pretrained_cfg"]
    if isinstance(pretrained_cfg, dict) and "num_classes" in pretrained_cfg:
        config.setdefault("num_classes", pretrained_cfg["num_classes"])
    if config.get("model_args") is None:
        config["model_args"] = {}
    if config.get("label_names") is None and isinstance(pretrained_cfg, dict):  # where timm keeps those it was given
        config["label_names"] = pretrained_cfg.get("label_names")
    config["label_names"] = _as_list(config["label_names"], config.get("num_classes"))

    check_config(config, str(path))
    return config


def check_config(config: dict[str, Any], where: str) -> None:
    """Refuses a config that could not be loaded; every wrong field is named at once.

    Raises:
        InputError: a field is missing or wrong.
    """
    if problems := [*_problems(config), *_problems_of_preprocessing(config), *_problems_of_own(config)]:
        raise InputError(f"{where}: {'; '.join(problems)}")


def _as_list(label_names: Any, num_classes: Any) -> Any:
    """timm also writes an object from class number to name, which may leave numbers out; those stay numbers."""
    if isinstance(label_names, dict) and isinstance(num_classes, int):
        numbers = [str(number) for number in range(num_classes)]
        if label_names.keys() <= set(numbers):
            return [label_names.get(number, number) for number in numbers]
    return label_names


def _problems(config: dict[str, Any]) -> list[str]:
    problems = []
    wanted = {
        "architecture": (str, "a name"),
        "num_classes": (int, "a whole number"),
        "pretrained_cfg": (dict, "an object"),
        "model_args": (dict, "an object"),
    }
    for key, (kind, description) in wanted.items():
        if key not in config:
            problems.append(f"{key} is missing")
        elif not isinstance(config[key], kind) or isinstance(config[key], bool):
            problems.append(f"{key} must be {description}, not {config[key]!r}")
        elif key == "num_classes" and config[key] < 0:
            problems.append(f"num_classes must not be negative, not {config[key]}")
    names, classes = config["label_names"], config.get("num_classes")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            problems.append("label_names must be a list of strings")
        elif wrong := next((name for name in names if name != printable(name)), None):
            problems.append(f"label_names must be text that UTF-8 can hold, not {printable(wrong)!r}")
        elif isinstance(classes, int) and len(names) != classes:
            problems.append(f"label_names has {len(names)} names for {classes} classes")
    return problems


def _problems_of_preprocessing(config: dict[str, Any]) -> Iterator[str]:
    """Kinds alone; which values can be used, `Preprocess` says."""
    cfg = config["pretrained_cfg"] if isinstance(config.get("pretrained_cfg"), dict) else {}
    for key, kind, description in (
        ("input_size", int, "whole numbers"),
        ("mean", Real, "numbers"),
        ("std", Real, "numbers"),
    ):
        value = cfg.get(key)
        if value is not None and not (
            isinstance(value, list | tuple) and all(isinstance(part, kind) for part in value)
        ):
            yield f"pretrained_cfg.{key} must be a list of {description}, not {value!r}"


def _problems_of_own(config: dict[str, Any]) -> Iterator[str]:
    own = config.get("jaxtl")
    if own is None:
        return
    if not isinstance(own, dict):
        yield f"jaxtl must be an object, not {own!r}"
    elif own.get("task", TASKS[0]) not in TASKS:
        yield f"jaxtl.task must be {', '.join(TASKS[:-1])} or {TASKS[-1]}, not {own['task']!r}"
