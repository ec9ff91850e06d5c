"""What the store raises.

Exception
├── StoreOverloaded
├── ConnectionError
│   └── DatabaseUnavailable
└── ValueError
    ├── NoStore
    └── EmbeddingModelChanged
"""


class StoreOverloaded(Exception):
    """Too many writes are waiting for the database."""


class DatabaseUnavailable(ConnectionError):
    """The database can't be reached or did not answer in time; the call may be repeated."""


class NoStore(ValueError):
    """There is no store at this URL."""


class EmbeddingModelChanged(ValueError):
    """The database holds embeddings of a different model from the one configured."""
