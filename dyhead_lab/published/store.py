"""Published weights on this machine: found in the caches that other programs use too, or fetched into them.

Repositories of the Hugging Face Hub lie in its own cache (``HF_HOME``), single files where torch.hub keeps them
(``TORCH_HOME``). Both write beside the place and move what is complete: a download that fails replaces nothing.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

from ..errors import UserError
from ..notices import notice
from .catalogue import AT_REVISION, CATALOGUE, HUB_PREFIX, NEWEST, Published, nearest

#: What a repository of transformers calls its weights, in the order of preference, and what must stand beside them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


def here(name: str) -> Path | None:
    """The file of published weights if it is on this machine already; nothing is asked of the network."""
    weights = CATALOGUE.get(name)
    if weights is not None and weights.by_hand:
        return None
    if weights is not None and weights.url:
        path = _file_of(weights)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _repository(name)
    for file in WEIGHTS:
        found = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def get(name: str) -> Path:
    """The file of published weights, fetched if it is not here.

    Args:
        name: of the catalogue, or ``hf:OWNER/REPOSITORY`` for another repository of the Hugging Face Hub;
            ``hf:OWNER/REPOSITORY@REVISION`` for a commit, a tag or a branch of any.

    Raises:
        UserError: nobody can fetch it, the server refuses or cannot be reached, what came is not what was published,
            or there is no room for it. What was here before is still here then.
    """
    weights = CATALOGUE.get(name)
    if weights is not None and weights.by_hand:
        raise UserError(f"{name} cannot be fetched: {weights.by_hand}")
    if weights is not None and weights.url:
        return _file(weights)
    return _from_hub(*_repository(name))


def _repository(name: str) -> tuple[str, str]:
    """The id of a repository on the hub, and the revision that is asked for.

    Raises:
        UserError: nothing stands where the revision should.
    """
    weights = CATALOGUE.get(name)
    if weights is not None:
        return weights.name, weights.revision
    repository, at, revision = name.removeprefix(HUB_PREFIX).partition(AT_REVISION)
    if at and not revision:
        raise UserError(f"{name}: expected a commit, a tag or a branch after {AT_REVISION}")
    return repository, revision or NEWEST


def _from_hub(repository: str, revision: str) -> Path:
    from huggingface_hub import constants, errors

    try:
        _hub_file(repository, CONFIG, revision)
        _hub_file(repository, PREPROCESSOR, revision, needed=False)
        for file in WEIGHTS:
            found = _hub_file(repository, file, revision, needed=file == WEIGHTS[-1])
            if found is not None:
                _shards(found, repository, revision)
                return found
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        unknown = f"the hub has no public repository {repository} ({_status(error)})"
        raise UserError(f"{unknown}{nearest(repository)}") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision {revision} on the hub") from error
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
            if isinstance(error.__cause__, errors.HfHubHTTPError):
                why = f"the hub refuses it ({_status(error.__cause__)})"
            raise UserError(f"{repository} is not in the cache of this machine, and {why}") from error
        raise UserError(f"{repository} holds no {CONFIG}, or none of {', '.join(WEIGHTS)}") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"{repository}: the hub refuses it ({_status(error)})") from error
    except errors.HTTPError as error:
        raise UserError(f"{repository}: the line to the hub broke ({error}); the same command goes on") from error
    except OSError as error:
        raise UserError(f"{repository} cannot be fetched: {error}; its cache is {constants.HF_HUB_CACHE}") from error
    raise AssertionError("the last name of WEIGHTS is needed")


def _hub_file(repository: str, file: str, revision: str, needed: bool = True) -> Path | None:
    """A file of a repository, out of the cache where it is there; None if there is none and none is needed."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except errors.EntryNotFoundError:
        if needed:
            raise
        return None


def _shards(index: Path, repository: str, revision: str) -> None:
    """Fetch the files that an index names."""
    if not index.name.endswith(".index.json"):
        return
    for shard in sorted(set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())):
        _hub_file(repository, str(shard), revision)


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else str(error).splitlines()[0]


def _file_of(weights: Published) -> Path:
    return _torch_hub() / "checkpoints" / Path(urlparse(weights.url).path).name


def _torch_hub() -> Path:
    """The folder of torch.hub. Its rule stands here so that a list of weights need not wait for torch.

    Source: the documentation of ``torch.hub.get_dir``. Only a program that has imported torch can have set another.
    """
    if "torch" in sys.modules:
        import torch

        return Path(torch.hub.get_dir())
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser() / "hub"


def _file(weights: Published) -> Path:
    """A single file. Where its name ends in eight digits of its SHA-256, torch.hub holds what comes against them."""
    path = _file_of(weights)
    if path.is_file():
        return path
    import torch

    from ..weight_files import read_weight_file

    digits = torch.hub.HASH_REGEX.search(path.name)
    part = path.with_name(f"{path.name}.fetched-by-{os.getpid()}")
    notice(f"fetching {weights.name} from {weights.url} into {path.parent}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(part), digits[1] if digits else None)
        read_weight_file(part)  # an error page, or half a file, is none
        part.replace(path)
    except urllib.error.HTTPError as error:
        raise UserError(f"{weights.name}: {weights.url} answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UserError(f"{weights.name}: {weights.url} cannot be reached ({error.reason})") from error
    except (UserError, RuntimeError, HTTPException) as error:
        raise UserError(f"{weights.name}: what {weights.url} sent is not what was published ({error})") from error
    except OSError as error:  # no room, or a folder that may not be written
        raise UserError(f"{weights.name} cannot be kept in {path.parent} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return path
