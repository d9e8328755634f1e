"""The audit log: triggers write what happens to rows, this package who did it, and what is no row (docs/adr/0016)."""
