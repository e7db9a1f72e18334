"""Row shapes: from a JSON object to a conversation, a preference, a judged answer or a
labelled text.

Owns what each format needs and the words for what is wrong with a row. Must not know files, places (callers add them)
or tokenizers.
"""

from launcher.data.formats.learnt import Learnt, learnt
from launcher.data.formats.read import detect, read_row, to_conversation, to_example
from launcher.data.formats.shapes import (
    NEEDS,
    ROLES,
    Conversation,
    Example,
    FieldsError,
    Judged,
    Labelled,
    Message,
    PlainText,
    Preference,
)
from launcher.data.reject import RowError

__all__ = [
    "NEEDS",
    "ROLES",
    "Conversation",
    "Example",
    "FieldsError",
    "Judged",
    "Labelled",
    "Learnt",
    "Message",
    "PlainText",
    "Preference",
    "RowError",
    "detect",
    "learnt",
    "read_row",
    "to_conversation",
    "to_example",
]
