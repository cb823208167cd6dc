"""``jaxtl push``: an exported folder as a repository on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from jaxtl.errors import InputError
from jaxtl.files import expanded
from jaxtl.pretrained.card import CARD
from jaxtl.pretrained.config import CONFIG, read_config
from jaxtl.pretrained.hub_errors import interruption
from jaxtl.pretrained.save import WEIGHTS

PUSHED = (CONFIG, WEIGHTS, CARD)


def push(folder: str | Path, repo_id: str, *, private: bool = False) -> str:
    """Uploads a folder that ``jaxtl.export`` wrote for timm; the repository is made where it does not exist.

    The card, the weights and ``config.json`` are uploaded in one commit and nothing else of the folder is.

    Args:
        folder: with ``config.json``, ``model.safetensors`` and the card.
        repo_id: ``"OWNER/NAME"``.
        private: of a new repository: whether only its owner sees it.

    Returns:
        The repository's address.

    Raises:
        InputError: the folder is no such folder, nobody is logged in, or the hub refuses or cannot be reached.
    """
    folder = expanded(folder)
    read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has no {WEIGHTS}: push takes a folder that `jaxtl export` wrote for timm")
    if not (folder / CARD).is_file():
        raise InputError(
            f"{folder} has no model card ({CARD}): `jaxtl export {folder} OUT` writes one (where timm has no such "
            "network with --format jaxtl), and leaves out where this machine keeps its files; push OUT"
        )
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            allow_patterns=list(PUSHED),
            commit_message="Upload by jaxtl",
        )
    except Exception as error:
        reason = error.__cause__ if isinstance(error, RuntimeError) else None  # the transfer of one file
        message = _explain(reason or error, repo_id)
        if message is None:
            raise
        raise InputError(message) from error
    return str(address)


def _explain(error: BaseException, repo_id: str) -> str | None:
    from huggingface_hub import constants, errors

    log_in = "run `hf auth login` or set HF_TOKEN to a token that may write"
    match error:
        case errors.HFValidationError():
            return f"{repo_id!r} cannot be the name of a hub repository: {error}"
        case errors.LocalTokenNotFoundError():
            return f"pushing to {constants.ENDPOINT} needs to know who you are: {log_in}"
        case errors.HfHubHTTPError():
            status, said = error.response.status_code, error.server_message or ""
            if status in (401, 403):
                return f"the hub does not let you write to {repo_id!r} ({status}{f': {said}' * bool(said)}): {log_in}"
            return f"the hub answers {status} for {repo_id!r}{f': {said}' * bool(said)}"
        case errors.OfflineModeIsEnabled():
            return f"HF_HUB_OFFLINE is set, so nothing can be pushed to {constants.ENDPOINT}"
        case _ if isinstance(error, interruption() | ConnectionError):
            reason = f"{type(error).__name__}: {error}"
            return f"{constants.ENDPOINT} cannot be reached ({reason}); check the network and HF_ENDPOINT"
        case ValueError():  # the hub found the card's front matter wrong
            return f"the hub refuses what is pushed to {repo_id!r}: {error}"
    return None
