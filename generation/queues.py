"""The Celery queues. What each does, and who claims it: docs/workers.md."""

DEFAULT = "default"  # short tasks: sweeps, schedules, notices, export files
GENERATION = "generation"  # writing stories, and what else loads a model to write or read
TRAINING = "training"  # freezing a round's pairs and training on them
QUEUES = (DEFAULT, GENERATION, TRAINING)
