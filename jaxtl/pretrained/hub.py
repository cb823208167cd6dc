"""Weights from the Hugging Face hub: downloaded once, kept in its cache, checked to be whole.

The environment variables of huggingface_hub apply: `HF_HOME` and `HF_HUB_CACHE` (where the cache is), `HF_ENDPOINT`
(another server), `HF_TOKEN` (private repositories), `HF_HUB_OFFLINE=1` (the cache alone).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError
from jaxtl.pretrained.config import CONFIG, read_config
from jaxtl.pretrained.hub_errors import NoSuchFileError, OfflineError, interruption, readable_errors

__all__ = ["fetch", "read_config"]

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
ATTEMPTS = 3


def fetch(
    repo_id: str,
    revision: str | None = None,
    local_files_only: bool = False,
    check: Callable[[Mapping[str, Any]], None] | None = None,
) -> Path:
    """Downloads a model repository, unless the cache has it, and returns its folder.

    Without a network the cache is enough. An interrupted transfer is resumed; a damaged file in the cache is downloaded
    once more. The weights are always of the same commit as `config.json`.

    Args:
        repo_id: `"timm/resnet50.a1_in1k"`.
        revision: Branch, git tag or commit; None for the main branch.
        local_files_only: Use the cache alone, as `HF_HUB_OFFLINE=1` does for everything.
        check: Is given `config.json`, as `read_config` reads it, before the weights are downloaded.

    Returns:
        A folder with `config.json` and `model.safetensors`, or, only where the repository has none,
        `pytorch_model.bin`, for which torch is needed.

    Raises:
        InputError: no such repository (the message names the nearest known ones), revision or file; no access; the hub
            cannot be reached and the cache does not have the files; a file stays damaged.
    """
    config = _whole_file(repo_id, CONFIG, revision, local_files_only)
    content = read_config(config.parent)
    if check is not None:
        check(content)
    commit = config.parent.name
    try:
        _whole_file(repo_id, SAFETENSORS, commit, local_files_only)
    except NoSuchFileError:
        _fetch_pickle(repo_id, commit, local_files_only)
    return config.parent


def _fetch_pickle(repo_id: str, commit: str, local_files_only: bool) -> None:
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"hub repository {repo_id!r} has no {SAFETENSORS}, and its {PICKLE} can be read only with torch: "
            "pip install 'jaxtl[timm]'"
        )
    try:
        _whole_file(repo_id, PICKLE, commit, local_files_only)
    except NoSuchFileError:
        raise InputError(f"hub repository {repo_id!r} has no weights: neither {SAFETENSORS} nor {PICKLE}") from None


def _whole_file(repo_id: str, filename: str, revision: str | None, local_files_only: bool) -> Path:
    path = _download(repo_id, filename, revision, local_files_only)
    if not _damage(path):
        return path
    try:
        path = _download(repo_id, filename, path.parent.name, local_files_only, again=True)
        attempt = "downloading it again did not help"
    except InputError as error:
        attempt = f"it could not be downloaded again: {error}"
    if damage := _damage(path):
        raise InputError(f"{path} is damaged ({damage}); {attempt}. Delete {path.resolve()} to have it downloaded anew")
    return path


def _damage(path: Path) -> str:
    """What is wrong with a file that did not arrive whole, or nothing."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.name == SAFETENSORS:
            with safe_open(path, framework="numpy"):  # compares the lengths in the header with the file's
                pass
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
    except (SafetensorError, ValueError) as error:
        return f"{path.stat().st_size} bytes: {error}"
    return ""


def _download(repo_id: str, filename: str, revision: str | None, local_files_only: bool, again: bool = False) -> Path:
    from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache

    offline = local_files_only or constants.HF_HUB_OFFLINE
    with readable_errors(repo_id, filename, revision):
        cached = try_to_load_from_cache(repo_id, filename, revision=revision)
        if offline:
            if cached is _CACHED_NO_EXIST:
                raise NoSuchFileError(repo_id, filename, revision)
            if again or not isinstance(cached, str):
                raise OfflineError(repo_id)
            return Path(cached)
        if cached is None:
            _check_reachable(repo_id, filename, revision)
        return _download_patiently(repo_id, filename, revision, again)


def _check_reachable(repo_id: str, filename: str, revision: str | None) -> None:
    """Asks the hub once, so that a missing network is told at once and not after half a minute of retries."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    with contextlib.suppress(errors.HfHubHTTPError):  # an answer: what it means, the download finds out
        get_hf_file_metadata(hf_hub_url(repo_id, filename, revision=revision))


def _download_patiently(repo_id: str, filename: str, revision: str | None, again: bool) -> Path:
    """hf_hub_download resumes after most interruptions; those that it gives up on are tried anew."""
    from huggingface_hub import hf_hub_download

    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(interruption()):
            return Path(hf_hub_download(repo_id, filename, revision=revision, force_download=again))
    return Path(hf_hub_download(repo_id, filename, revision=revision, force_download=again))
