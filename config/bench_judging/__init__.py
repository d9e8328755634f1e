"""`make bench-judging`: experts who judge without pause, against the production server configuration."""
