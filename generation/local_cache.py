"""What saves a process work, and may differ between processes. The default cache is the database's, for counting."""

from django.core.cache import caches
from django.utils.connection import ConnectionProxy

cache = ConnectionProxy(caches, "local")
