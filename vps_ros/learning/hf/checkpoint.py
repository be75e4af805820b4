"""A checkpoint of transformers, in a folder or on the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn

from vps_ros.errors import InputError

_LEFT_ON_DISK = "model.safetensors or pytorch_model.bin"
_OF_TRAINING = ("criterion.", "matcher.")
"""Prefixes of tensors that only training uses."""


@dataclass(frozen=True)
class Checkpoint:
    """Location and configuration of a checkpoint.

    Attributes:
        name: as given by the user: a folder, or a name on the hub, optionally with @REVISION.
        source: the name without the revision.
        revision: on the hub; None for the newest one, and for a folder.
        commit: of the files on the hub; None for a folder.
        config: config.json.
        processor: preprocessor_config.json, or the image processor of processor_config.json; {} if there is none.
    """

    name: str
    source: str
    revision: str | None
    commit: str | None
    config: dict[str, Any] = field(repr=False)
    processor: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def short(self) -> str:
        """The last part of the name."""
        return Path(self.source).resolve().name if os.path.isdir(self.source) else self.source.split("/")[-1]

    @property
    def words(self) -> set[str]:
        """Lower-case words of the last part of the name."""
        return set(re.split(r"[^a-z0-9]+", self.short.lower()))

    @property
    def origin(self) -> dict[str, str]:
        """Origin of the weights, for the model card."""
        if self.commit is None:
            return {"checkpoint": self.short}
        return {"checkpoint": self.source, "revision": self.commit}

    def load(self, architecture: str, settings: Mapping[str, Any]) -> nn.Module:
        """The network with its weights, in float32 and eval mode; `settings` replace entries of its configuration.

        Raises InputError when the weights are missing, incomplete, or have another shape.
        """
        kind = getattr(transformers, architecture)
        with _without_logging():
            try:
                model, info = kind.from_pretrained(
                    self.source,
                    revision=self.revision or "main",
                    dtype=torch.float32,
                    output_loading_info=True,
                    **settings,
                )
            except ImportError as error:
                lacking = re.search(r"(?:requires the|the) `?([\w-]+)`? library", str(error))
                name = lacking[1] if lacking else _first_line(error)
                raise InputError(f"{self}: its network needs {name}; pip install {name}") from None
            except OSError as error:
                if "no file named" in str(error) or "does not appear to have" in str(error):
                    raise InputError(f"{self}: has no weights ({_LEFT_ON_DISK})") from None
                raise InputError(f"{self}: its weights cannot be read ({_first_line(error)})") from None
            except Exception as error:  # safetensors, torch and transformers raise different types
                raise InputError(f"{self}: its weights do not make a {architecture} ({_first_line(error)})") from None
        missing = sorted(n for n in info["missing_keys"] if not n.startswith(_OF_TRAINING))
        if missing:
            raise InputError(
                f"{self}: its weights lack {len(missing)} tensors of {architecture}, {missing[0]} among them; it may "
                "be a checkpoint of another task"
            )
        return model.eval()

    def tokens(self, text: str, length: int) -> torch.Tensor:
        """int64 [1, length]: token ids of the text, padded with zeros.

        Raises InputError when the checkpoint has no usable tokenizer.
        """
        with _without_logging():
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.source, revision=self.revision or "main")
                found = tokenizer([text], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
                ids, mask = found["input_ids"], found["attention_mask"]
                # Without tokenizer files, transformers creates an empty tokenizer that knows no word.
                read = tokenizer.decode(ids[0][mask[0] == 1], skip_special_tokens=True)
                reason = "" if "".join(read.split()) == "".join(text.split()) else f"it reads {text!r} as {read!r}"
            except Exception as error:  # the type depends on which file is missing or damaged
                reason = _first_line(error)
        if reason:
            raise InputError(f"{self}: its tokenizer cannot be used ({reason}); its files belong to the checkpoint")
        return ids * mask


def open_checkpoint(name: str) -> Checkpoint:
    """Opens a folder, or a name on the hub.

    Raises InputError when it does not exist, the hub cannot be reached, or config.json is missing or damaged.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{name}: {_not_a_folder_of_transformers(path)}")
        processor = _processor(lambda file: _existing(path / file))
        return Checkpoint(name, name, None, None, _json(path / "config.json"), processor)
    if path.exists():
        raise InputError(f"{name}: a file; --from hf reads the folder that save_pretrained wrote, or a name of the hub")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder")
    source, _, revision = name.partition("@")

    def fetch(file: str) -> Path | None:
        return _fetch(name, source, revision or None, file)

    config = fetch("config.json")
    if config is None:
        raise InputError(f"{name}: has no config.json on the hub, so it is no checkpoint of transformers")
    # The local copy of a hub repository is in a folder named after the commit.
    return Checkpoint(name, source, revision or None, config.parent.name, _json(config), _processor(fetch))


def _not_a_folder_of_transformers(path: Path) -> str:
    if (path / "checkpoint.pt").is_file():
        return "a run of `vps-ros train`; leave out --from hf"
    return "has no config.json, so it is no folder that transformers saved"


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _processor(fetch) -> dict[str, Any]:
    path = fetch("preprocessor_config.json")
    if path is not None:
        return _json(path)
    path = fetch("processor_config.json")
    found = _json(path).get("image_processor", {}) if path is not None else {}
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({_first_line(error)})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no JSON object")
    return found


def _fetch(name: str, source: str, revision: str | None, file: str) -> Path | None:
    """Local path of a file on the hub; None if the checkpoint does not have it."""
    try:
        with _without_logging():
            return Path(hf_hub_download(source, file, revision=revision))
    except HFValidationError:
        raise InputError(f"{name}: no such folder, and no name that the hub could have") from None
    except GatedRepoError:
        raise InputError(
            f"{name}: the hub gives it only to those who have accepted its terms; do so there and `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{name}: the hub has no such revision of it") from None
    except RepositoryNotFoundError:
        raise InputError(f"{name}: no such folder, and no such name on the hub") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError):
        raise InputError(
            f"{name}: no such folder, and the hub cannot be reached; get it elsewhere with "
            f"`hf download {source} --local-dir DIR` and give the folder"
        ) from None
    except EntryNotFoundError:
        return None


@contextmanager
def _without_logging() -> Iterator[None]:
    """Disables log messages and progress bars of transformers and the hub client."""
    hub, level, bars = (
        huggingface_hub.utils.logging.get_verbosity(),
        transformers.logging.get_verbosity(),
        transformers.logging.is_progress_bar_enabled(),
    )
    huggingface_hub.utils.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        huggingface_hub.utils.logging.set_verbosity(hub)
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
