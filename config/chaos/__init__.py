"""Killing an installation, part by part, while people judge in it and rounds are trained: `make chaos`."""
