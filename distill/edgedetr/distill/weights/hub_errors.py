"""What went wrong between here and the Hugging Face hub, in one line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub import errors

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB_ERRORS: tuple[type[Exception], ...] = (*errors.HfHubHTTPError.__bases__, ValueError)
"""What a download raises: the errors of the hub's HTTP library, of files, of names."""

UNREADABLE: tuple[type[Exception], ...] = (*HUB_ERRORS, KeyError, TypeError, RuntimeError)
"""What reading a file of a repository raises besides, where it is damaged or of another kind."""


@contextmanager
def from_hub(name: str, otherwise: str) -> Iterator[None]:
    """Turn the errors of a download into one line.

    Args:
        name: The repository.
        otherwise: What to bring where there is no network, and where to.

    Raises:
        ArtifactError: If the repository is missing or gated, the download broke off, or the hub is
            out of reach.
    """
    try:
        yield
    except errors.GatedRepoError as error:
        raise ArtifactError(
            f"{name} is gated on the hub: accept its terms at https://huggingface.co/{name}, log "
            f"in with hf auth login and try again; or {otherwise}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ArtifactError(
            f"{name} is no folder here and no repository of the hub, or a private one; check the "
            "name, or log in with hf auth login"
        ) from error
    except HUB_ERRORS as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(
            f"{name} is no folder here and cannot be had from the hub ({reason}); try again, or "
            f"without a network, {otherwise}"
        ) from error
