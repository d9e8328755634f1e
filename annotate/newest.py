"""Which judgements figures of experts are made of: a page must come while somebody waits for it."""

NEWEST = 50_000  # judgements
RECENT = "j.id > (SELECT coalesce(max(id), 0) - %(newest)s FROM annotate_judgement)"
ENOUGH = 5  # answers: with fewer a percentage says nothing
