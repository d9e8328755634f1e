"""The SQL that writes a database of past judgements: 4 stories a comparison, made of 4 tales each.

`i` numbers the new comparisons and `j` their judgements, both from 0: judgement j is of comparison
j / places, and ids are those after what is there. What looks like chance is a hash of the id, so that the
same seed gives the same rows.
"""

TALES = 1000  # of the grammar, in each language
REPEAT_EVERY = 16  # of the past answers: the queue draws one in 15 of the others

# the transaction's own choices: the rows are the same, only written faster
FASTER = """
    SET LOCAL synchronous_commit = off; SET LOCAL jit = off; SET LOCAL work_mem = '64MB';
    SET CONSTRAINTS ALL IMMEDIATE
"""

TALE_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS bench_tale (
        language text, number bigint, text text, token_ids int[], PRIMARY KEY (language, number))
"""
TALE = "INSERT INTO bench_tale VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"

PROMPTS = """
    INSERT INTO generation_prompt (id, text, language, theme, story_type, age_band, split, created_at)
    SELECT %(prompt)s + i,
           CASE mod(i, 2) WHEN 0
                THEN 'Write a fable about courage for children of 5-6. The hero is rabbit number ' || %(prompt)s + i
                ELSE '请为5到6岁的孩子写一个关于勇气的寓言。主角是小兔子' || %(prompt)s + i || '号。' END,
           CASE mod(i, 2) WHEN 0 THEN 'en' ELSE 'zh' END, 'courage', 'fable', '5-6', 'train', %(began)s
    FROM generate_series(%(low)s, %(high)s - 1) AS i
"""

# the first tale differs between the stories of a prompt, and so do their texts
WRITTEN = """
    INSERT INTO generation_story (id, prompt_id, policy_id, sample_index, rendered_prompt, text, token_ids,
                                  finish_reason, temperature, top_p, min_p, top_k, repetition_penalty, seed, draws,
                                  weights_hash, engine, created_at)
    SELECT %(story)s + n, prompt.id, %(policy)s, mod(n, 4), prompt.text || E'\\n',
           concat_ws(E'\\n', a.text, b.text, c.text, d.text), a.token_ids || b.token_ids || c.token_ids || d.token_ids,
           'stop', 1, 1, 0, 0, 1, n, 1, repeat('0', 64), '', %(began)s
    FROM (SELECT n, abs(mod(hashint8extended(%(story)s + n, %(seed)s), 1000000000)) AS chance
          FROM generate_series(4 * %(low)s, 4 * %(high)s - 1) AS n) AS drawn
    JOIN generation_prompt AS prompt ON prompt.id = %(prompt)s + n / 4
    JOIN bench_tale AS a ON a.language = prompt.language AND a.number = mod(n, 1000)
    JOIN bench_tale AS b ON b.language = prompt.language AND b.number = mod(chance, 1000)
    JOIN bench_tale AS c ON c.language = prompt.language AND c.number = mod(chance / 1000, 1000)
    JOIN bench_tale AS d ON d.language = prompt.language AND d.number = mod(chance / 1000000, 1000)
"""

COMPARISONS = """
    INSERT INTO annotate_comparison (id, prompt_id, purpose, policy_id, sample_index, draw_order, created_at)
    SELECT %(comparison)s + i, %(prompt)s + i, 'preference', %(policy)s, 0,
           abs(mod(hashint8extended(%(comparison)s + i, %(seed)s + 1), 1000000000)) / 1e9, %(began)s
    FROM generate_series(%(low)s, %(high)s - 1) AS i
"""

COMPARED = """
    INSERT INTO annotate_comparison_stories (comparison_id, story_id)
    SELECT %(comparison)s + n / 4, %(story)s + n
    FROM generate_series(4 * %(low)s, 4 * %(high)s - 1) AS n
"""

# one in ten is no ranking; one in three gives a reason
ANSWERS = """
    CREATE TEMP TABLE bench_answer AS
    SELECT j, %(assignment)s + j AS assignment_id, %(judgement)s + j AS judgement_id,
           %(comparison)s + j / %(places)s AS comparison_id, %(story)s + 4 * (j / %(places)s) AS story_id, chance,
           (ARRAY['tie', 'all_good', 'all_bad'])[mod(chance, 30) + 1] AS equal,
           mod(chance / 30, 4) + 1 AS best,
           mod(mod(chance / 30, 4) + 1 + mod(chance / 120, 3), 4) + 1 AS worst,
           CASE mod(chance / 7, 3) WHEN 0 THEN 'The ending follows from what the hero did, and the words fit the age.'
                                   ELSE '' END AS reason,
           45 + mod(chance / 11, 150) AS seconds,
           md5(%(assignment)s + j || ' page ' || %(seed)s)::uuid AS page,
           %(began)s::timestamptz + make_interval(secs => 30 * (%(assignment)s + j)) AS answered_at
    FROM (SELECT j, abs(mod(hashint8extended(%(assignment)s + j, %(seed)s + 2), 1000000000)) AS chance
          FROM generate_series(%(low)s * %(places)s, least(%(high)s * %(places)s, %(answers)s) - 1) AS j) AS drawn
"""

ASSIGNMENTS = """
    INSERT INTO annotate_assignment (id, key, comparison_id, expert_id, kind, shown, minimum_seconds, opened_at,
                                     answered_at, version, page)
    SELECT assignment_id, md5(assignment_id || ' key ' || %(seed)s)::uuid, comparison_id,
           (%(experts)s::bigint[])[mod(j, cardinality(%(experts)s::bigint[])) + 1], 'ordinary',
           ARRAY(SELECT story_id + mod(position + chance, 4) FROM generate_series(0, 3) AS position),
           40, answered_at - make_interval(secs => seconds), answered_at, 1, page
    FROM bench_answer
"""

JUDGEMENTS = """
    INSERT INTO annotate_judgement (id, assignment_id, verdict, reason, reasons_for, reasons_against, extra, seconds,
                                    hurried, created_at, changed_at)
    SELECT judgement_id, assignment_id, coalesce(equal, 'ranked'), reason, '{}', '{}', false, seconds, false,
           answered_at, answered_at
    FROM bench_answer
"""

RANKS = """
    INSERT INTO annotate_rank (judgement_id, story_id, rank, shown_position)
    SELECT judgement_id, story_id + mod(position - 1 + chance, 4),
           CASE WHEN equal IS NOT NULL OR position = best THEN 1 WHEN position = worst THEN 3 ELSE 2 END, position
    FROM bench_answer CROSS JOIN generate_series(1, 4) AS position
"""

REVISIONS = """
    INSERT INTO annotate_revision (assignment_id, number, act, key, fields, created_at)
    SELECT assignment_id, 1, 'submitted', page, jsonb_build_object(
               'verdict', ARRAY[coalesce(equal, 'ranked')], 'reason', ARRAY[reason], 'seconds', ARRAY[seconds::text],
               'best', ARRAY[best::text], 'worst', ARRAY[worst::text], 'page', ARRAY[page], 'version', ARRAY['0']),
           answered_at
    FROM bench_answer
"""

# filled by the judgements up to `answers`, and wanted from there on
PLACES = """
    INSERT INTO annotate_place (comparison_id, number, draw_order, language, wanted, assignment_id)
    SELECT comparison.id, mod(j, %(places)s) + 1, draw_order, prompt.language, j >= %(answers)s,
           CASE WHEN j < %(answers)s THEN %(assignment)s + j END
    FROM generate_series(%(low)s * %(places)s, %(high)s * %(places)s - 1) AS j
    JOIN annotate_comparison AS comparison ON comparison.id = %(comparison)s + j / %(places)s
    JOIN generation_prompt AS prompt ON prompt.id = comparison.prompt_id
"""

DONE = "DROP TABLE bench_answer"

BATCH = (PROMPTS, WRITTEN, COMPARISONS, COMPARED, ANSWERS, ASSIGNMENTS, JUDGEMENTS, RANKS, REVISIONS, PLACES, DONE)

# the oldest answers that were not asked again yet, every story in another place than the first time
REPEATED = """
    INSERT INTO annotate_assignment (key, comparison_id, expert_id, kind, shown, minimum_seconds, opened_at,
                                     answered_at, version, page)
    SELECT gen_random_uuid(), comparison_id, expert_id, 'repeat', ARRAY[shown[4], shown[3], shown[2], shown[1]],
           minimum_seconds, opened_at + interval '1 day', answered_at + interval '1 day', 1, gen_random_uuid()
    FROM annotate_assignment AS first
    WHERE kind = 'ordinary' AND answered_at IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM annotate_assignment AS again
        WHERE again.expert_id = first.expert_id AND again.comparison_id = first.comparison_id AND again.kind = 'repeat')
    ORDER BY answered_at, id LIMIT %(repeats)s
"""
REPEATED_JUDGEMENTS = """
    INSERT INTO annotate_judgement (assignment_id, verdict, reason, reasons_for, reasons_against, extra, seconds,
                                    hurried, created_at, changed_at)
    SELECT id, 'tie', '', '{}', '{}', false, 60, false, answered_at, answered_at
    FROM annotate_assignment WHERE id > %(last)s AND kind = 'repeat'
"""
REPEATED_RANKS = """
    INSERT INTO annotate_rank (judgement_id, story_id, rank, shown_position)
    SELECT judgement.id, shown[position], 1, position
    FROM annotate_assignment AS assignment
    JOIN annotate_judgement AS judgement ON judgement.assignment_id = assignment.id
    CROSS JOIN generate_series(1, 4) AS position
    WHERE assignment.id > %(last)s AND kind = 'repeat'
"""
REPEATED_REVISIONS = """
    INSERT INTO annotate_revision (assignment_id, number, act, key, fields, created_at)
    SELECT id, 1, 'submitted', page, '{"verdict": ["tie"], "reason": [""], "seconds": ["60"]}', answered_at
    FROM annotate_assignment WHERE id > %(last)s AND kind = 'repeat'
"""
REPEATS = (REPEATED, REPEATED_JUDGEMENTS, REPEATED_RANKS, REPEATED_REVISIONS)

GOLDS = """
    INSERT INTO annotate_gold (comparison_id, best_id, worst_id, made_by_id, created_at)
    SELECT comparison_id, min(story_id), max(story_id), %(admin)s, %(began)s
    FROM annotate_comparison_stories
    WHERE comparison_id >= %(comparison)s AND comparison_id < %(comparison)s + %(golds)s
    GROUP BY comparison_id
"""

JUDGED = """
    UPDATE annotate_expert AS expert SET judged = counted.answers
    FROM (SELECT expert_id, count(*) AS answers FROM annotate_assignment WHERE answered_at IS NOT NULL GROUP BY 1)
         AS counted
    WHERE counted.expert_id = expert.id
"""
