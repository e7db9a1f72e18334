"""Loading a tokenizer so that a mistake is explained, and nothing a stranger wrote is run.

Owns what counts as a usable tokenizer. Must not know rows or masks. Imports transformers inside the call, because
that takes seconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import Problem, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_tokenizer(tokenizer: str, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer in the folder, or of the hub id, `tokenizer`; a Jinja file replaces its chat template.

    Raises UserError where there is none, where it has no fast form or wants to run code of its own.
    """
    template = None if chat_template is None else _read_template(Path(chat_template))
    # A folder without a hub id's shape would be asked of the hub, which answers with three screens of text.
    if tokenizer.startswith((os.sep, ".", "~")) and not Path(tokenizer).is_dir():
        raise UserError(_unusable(tokenizer, "there is no such folder"))
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except Exception as error:  # transformers raises anything from OSError to KeyError here
        raise UserError(_unusable(tokenizer, str(error).strip().split("\n")[0])) from error
    finally:
        logging.set_verbosity(verbosity)
    if not loaded.is_fast:
        raise UserError(_unusable(tokenizer, "it has no fast tokenizer, so a token's place in the text is unknown"))
    # tokenizer.json may carry a truncation or padding that somebody saved by chance; it would cut rows in silence.
    loaded.backend_tokenizer.no_truncation()
    loaded.backend_tokenizer.no_padding()
    if template is not None:
        loaded.chat_template = template
    return loaded


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "name a Jinja file, or leave it out to use the tokenizer's own template"
        raise UserError(Problem(where="data.chat_template", message=f"{path}: {error}", remedy=remedy)) from None


def _unusable(tokenizer: str, reason: str) -> Problem:
    return Problem(
        where="model.path",
        message=f"no tokenizer could be loaded from {tokenizer!r}: {reason}",
        valid="a folder with tokenizer.json and tokenizer_config.json, or the id of a hub model in the local cache",
        remedy="save one there with tokenizer.save_pretrained(FOLDER); remote code is never run",
    )
