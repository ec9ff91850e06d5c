"""The operations of the AIOS kernel's storage manager, as tools for a model.

The kernel shows them to the model of an `operate_file` that has no tools of its own. The caller
carries out what the model chose.
Source of the names: https://github.com/agiresearch/AIOS/blob/main/aios/syscall/storage.py
"""

from typing import Any

_FILE = {"file_path": "The path of the file."}
_DIRECTORY = {"dir_path": "The path of the directory."}


def _operation(
    name: str, does: str, needs: dict[str, str], may_have: dict[str, str] | None = None
) -> dict[str, Any]:
    """A tool whose parameters are strings, as the kernel's are."""
    said = {**needs, **(may_have or {})}
    parameters = {
        "type": "object",
        "properties": {key: {"type": "string", "description": text} for key, text in said.items()},
        "required": list(needs),
    }
    function = {"name": name, "description": does, "parameters": parameters}
    return {"type": "function", "function": function}


OPERATIONS: list[dict[str, Any]] = [
    _operation("create_file", "Creates an empty file.", _FILE),
    _operation("create_dir", "Creates a directory.", _DIRECTORY),
    _operation("delete_file", "Deletes a file.", _FILE),
    _operation("delete_dir", "Deletes a directory.", _DIRECTORY),
    _operation("write", "Writes text to a file.", {**_FILE, "content": "The text."}),
    _operation(
        "retrieve",
        "Searches the files and summarises what they say.",
        {"query_text": "What to search for.", "k": "How many files to find, such as 3."},
        {**_FILE, "keywords": "Words that the files must contain."},
    ),
    _operation(
        "rollback",
        "Restores an earlier version of a file.",
        _FILE,
        {"n": "How many versions to go back, such as 1.", "time": "The time of that version."},
    ),
    _operation(
        "share",
        "Makes a link to a file that anyone can open.",
        _FILE,
        {"expires_in": "How long the link works, such as 7 days."},
    ),
]
