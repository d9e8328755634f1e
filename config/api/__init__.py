"""The REST API under /api/v1/: one module for each subject, all of them in site.py (docs/api.md)."""
