"""A small story writer made on the spot, for a machine without a network.

Django-free. `corpus` writes stories by a grammar with known faults, `build` trains a model of
about 1 M parameters on them. It knows nothing of prompts, policies or stories in the database.
"""
