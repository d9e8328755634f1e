"""The pages about judging: the experts' work, their own answers, their practice, and the admins' side of it."""
