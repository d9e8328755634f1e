"""Paths in the database: below a folder of the installation they are stored without it."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models


class StoredPath(models.TextField):  # type: ignore[type-arg]
    """A path on this machine; in the database relative to the folder of the setting `root`, if it lies in it.

    So machines may keep that folder where they like, and it can be moved. Rows of before, and what lies elsewhere,
    are absolute.
    """

    def __init__(self, *args: Any, root: str = "MODEL_DIR", **options: Any) -> None:
        self.root = root
        super().__init__(*args, **options)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        """A text, as before: the column is the same."""
        name, _path, args, options = super().deconstruct()
        return str(name), "django.db.models.TextField", list(args), dict(options)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return str(self._folder() / value) if value else value

    def get_prep_value(self, value: Any) -> Any:
        found = super().get_prep_value(value)
        if isinstance(found, str) and found and Path(found).is_relative_to(self._folder()):
            return Path(found).relative_to(self._folder()).as_posix()
        return found

    def _folder(self) -> Path:
        return Path(getattr(settings, self.root))
