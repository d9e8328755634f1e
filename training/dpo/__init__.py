"""DPO (Direct Preference Optimization; Rafailov et al., 2023) on ranked stories.

Django-free: torch in, weights out; runs alone as `python -m training.dpo`. It knows nothing of
rounds, experts or the database: a JSONL file and a model directory go in, a directory comes out.
"""
