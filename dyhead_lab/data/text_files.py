"""Read the small text files of a data set: lists of images, names of classes, labels."""

from __future__ import annotations

import codecs
from pathlib import Path

from ..errors import UserError

#: How a file begins whose encoding its mark tells: Windows' editors and PowerShell write both.
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text_file(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    try:
        data = path.read_bytes()
        encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: not encoded as UTF-8 or UTF-16 ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
