"""A bucket of a server that speaks S3. Nothing imports boto3 where the store is a folder."""

from collections.abc import Iterator
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from s3transfer.exceptions import S3UploadFailedError
from storages.backends.s3 import S3Storage

from generation.stores.backends import CHUNK
from generation.stores.faults import REFUSED, UNREACHABLE

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 10, 60, 4
HASTY_CONNECT_SECONDS, HASTY_READ_SECONDS = 2, 5  # and one attempt: a person waits for the page
GONE = ("404", "NoSuchKey", "NotFound")


class S3Store(S3Storage):  # type: ignore[misc]  # it has no types
    """django-storages' storage, read as a stream: its own files are copied to this disk before the first byte."""

    def __init__(self, *, in_haste: bool = False, **options: Any) -> None:
        config = Config(
            signature_version="s3v4",
            connect_timeout=HASTY_CONNECT_SECONDS if in_haste else CONNECT_SECONDS,
            read_timeout=HASTY_READ_SECONDS if in_haste else READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1 if in_haste else ATTEMPTS},
            # servers other than Amazon's may not know the newer checksums; ours are SHA-256, checked when fetched
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if options.get("endpoint_url") else "auto"},
        )
        super().__init__(client_config=config, file_overwrite=True, default_acl=None, **options)

    def begin(self) -> None:
        """A bucket is there, or it is not: nothing to do."""

    def stream(self, name: str, start: int = 0) -> Iterator[bytes]:
        asked = {"Range": f"bytes={start}-"} if start else {}
        try:
            body = self.bucket.Object(self._normalize_name(name)).get(**asked)["Body"]
        except ClientError as error:
            if _code(error) in GONE:
                raise FileNotFoundError(name) from error
            raise
        try:
            yield from body.iter_chunks(CHUNK)
        finally:
            body.close()

    def fault_of(self, error: Exception) -> str | None:
        """What the fault is called, if it is the store's and not this machine's."""
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return REFUSED
        if isinstance(error, S3UploadFailedError):
            return REFUSED if "AccessDenied" in str(error) or "InvalidAccessKeyId" in str(error) else UNREACHABLE
        if isinstance(error, ClientError):
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return UNREACHABLE if status >= 500 or not status else REFUSED
        return UNREACHABLE if isinstance(error, BotoCoreError) else None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
