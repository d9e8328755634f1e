"""The engines against each other, in one call: `make bench-generation`. Measures the writing, not the stories."""
