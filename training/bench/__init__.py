"""Our trainer against TRL's, in one call: `make bench-dpo`. Needs the packages that tests need."""
