"""Backups: a folder with the database as it was at one moment, the models, the exports, and a manifest.

A backup appears whole or not at all, and is restored only if every byte is as it was.
"""
