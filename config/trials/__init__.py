"""An installation put to the test while people judge in it and rounds run: what `make chaos` and `make soak` share."""
