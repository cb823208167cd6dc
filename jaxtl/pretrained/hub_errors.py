"""What huggingface_hub raises, as one readable sentence that says what to do."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from jaxtl.errors import InputError, nearest
from jaxtl.pretrained import tags


class NoSuchFileError(InputError):
    """The repository is there, the file is not."""

    def __init__(self, repo_id: str, filename: str, revision: str | None):
        at = f" at revision {revision!r}" if revision else ""
        super().__init__(
            f"hub repository {repo_id!r} has no file {filename!r}{at}; jaxtl reads repositories as timm writes"
        )


class OfflineError(InputError):
    """The file is not in the cache, and the hub must not be asked."""

    def __init__(self, repo_id: str):
        from huggingface_hub import constants

        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "only local files may be used"
        super().__init__(
            f"{repo_id!r} is not in the cache {constants.HF_HUB_CACHE}, and {reason}; where there is a network, "
            f"`hf download {repo_id} config.json model.safetensors` puts it there"
        )


@contextlib.contextmanager
def readable_errors(repo_id: str, filename: str, revision: str | None) -> Iterator[None]:
    """Raises an `InputError` in place of what huggingface_hub raises for this file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        explained = _explain(error, repo_id, filename, revision)
        if explained is None:
            raise
        raise explained from None


def interruption() -> type[Exception]:
    """The error of a transfer that broke off, not an answer of the hub, so worth another attempt."""
    from huggingface_hub import errors

    http_library = errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[
        0
    ]  # it has changed once: do not name it
    return importlib.import_module(http_library).TransportError


def _explain(error: BaseException, repo_id: str, filename: str, revision: str | None) -> InputError | None:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError | ValueError) and error.__cause__ is not None:
        error = error.__cause__  # "not in the cache either", "forced download failed"
    where = constants.ENDPOINT
    match error:
        case errors.GatedRepoError():
            message = (
                f"hub repository {repo_id!r} is gated: ask for access on {where}/{repo_id}, then run `hf auth login` "
                "or set HF_TOKEN"
            )
        case errors.RepositoryNotFoundError():
            message = _no_such_repository(repo_id)
        case errors.RevisionNotFoundError():
            message = f"hub repository {repo_id!r} has no revision {revision!r}"
        case errors.RemoteEntryNotFoundError():
            return NoSuchFileError(repo_id, filename, revision)
        case errors.HfHubHTTPError():
            message = _refused(repo_id, error.response.status_code)
        case errors.HFValidationError():
            message = f"{repo_id!r} cannot be the name of a hub repository: {error}"
        case errors.LocalEntryNotFoundError() | errors.FileMetadataError():
            message = _unreachable(repo_id, error)
        case OSError() if error.errno is not None:
            message = (
                f"cannot store {filename} of {repo_id!r} in the cache {constants.HF_HUB_CACHE}: {error.strerror}; "
                "HF_HOME puts the cache elsewhere"
            )
        case _ if isinstance(error, interruption() | OSError):  # OSError: what arrived has not the size it should
            message = _unreachable(repo_id, error)
        case _:
            return None
    return InputError(message)


def _no_such_repository(repo_id: str) -> str:
    from huggingface_hub import constants

    hint = nearest(repo_id, tags.hub_ids())
    return (
        f"there is no hub repository {repo_id!r} on {constants.ENDPOINT}, "
        f"or it is private and needs `hf auth login` or a valid HF_TOKEN{hint}"
    )


def _refused(repo_id: str, status: int) -> str:
    if status == 401:  # how the hub answers a stranger for a repository that is not there
        return _no_such_repository(repo_id)
    if status == 403:
        return f"the hub refuses access to {repo_id!r}: the token of `hf auth login` or HF_TOKEN does not allow it"
    return f"the hub answers {status} for {repo_id!r}; try again later"


def _unreachable(repo_id: str, error: BaseException) -> str:
    from huggingface_hub import constants

    return (
        f"{repo_id!r} is not whole in the cache, and {constants.ENDPOINT} cannot be read "
        f"({type(error).__name__}: {error}); check the network, the proxy and HF_ENDPOINT"
    )
