"""The demo writer: a corpus with known faults, and a model trained on it."""

import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from statistics import fmean

import pytest

from generation.demo_writer import __main__ as command
from generation.demo_writer import corpus, grammar_en, grammar_zh
from generation.demo_writer.build import build
from generation.demo_writer.recipe import Recipe
from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import Request, SamplingParams, Weights, taking, weights_hash
from generation.measures import distinct_share, hard_word_share, measure_story, sentences

GRAMMARS = [("en", grammar_en), ("zh", grammar_zh)]
DRAWN = 2000
QUICK = Recipe(stories=64, vocabulary=320, hidden=32, layers=1, heads=2, steps=4, batch=4)


@pytest.fixture(scope="module", params=["en", "zh"])
def drawn(request):
    """(language, stories): DRAWN stories of one language's grammar."""
    return request.param, draw(request.param, wide=False)


@pytest.fixture(scope="module", params=["en", "zh"])
def drawn_wide(request):
    """The same of the case study's grammar."""
    return request.param, draw(request.param, wide=True)


def draw(language, *, wide):
    rng = random.Random(2)
    briefs = (corpus.draw_brief(rng, language) for _ in range(DRAWN))
    return [corpus.write_story(rng, brief, wide=wide) for brief in briefs]


def test_78_percent_of_the_stories_have_a_structure(drawn):
    language, stories = drawn
    share = sum(measure_story(s, language).has_structure for s in stories) / DRAWN
    assert share == pytest.approx(0.78, abs=0.04)


def test_62_percent_of_the_stories_carry_a_message(drawn):
    language, stories = drawn
    share = sum(measure_story(s, language).has_message for s in stories) / DRAWN
    assert share == pytest.approx(0.62, abs=0.04)


def test_half_of_the_stories_use_words_that_are_too_hard(drawn):
    language, stories = drawn
    share = sum(measure_story(s, language).hard_words > 0 for s in stories) / DRAWN
    assert share == pytest.approx(0.5, abs=0.04)


def test_only_the_hard_sentences_use_hard_words(drawn):
    language, stories = drawn
    hard = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(s)) for s in corpus.GRAMMARS[language].HARD]
    found = {s for story in stories for s in sentences(story) if hard_word_share(s, language)}
    assert {s for s in found if not any(re.fullmatch(pattern, s) for pattern in hard)} == set()


def test_no_place_of_a_sentence_is_left_open(drawn):
    _, stories = drawn
    assert [s for s in stories if re.search(r"[{}]", s)] == []


def test_a_story_has_no_broken_sentence(drawn):
    language, stories = drawn
    assert sum(measure_story(s, language).broken for s in stories) / DRAWN < 0.01


# --- the case study's ----------------------------------------------------------------------------------------


def test_the_wide_corpus_has_the_shares_that_it_states(drawn_wide):
    language, stories = drawn_wide
    found = [measure_story(s, language) for s in stories]
    assert sum(m.has_structure for m in found) / DRAWN == pytest.approx(corpus.WIDE_SHARES.structure, abs=0.04)
    assert sum(m.has_message for m in found) / DRAWN == pytest.approx(corpus.WIDE_SHARES.message, abs=0.04)
    assert sum(m.hard_words > 0 for m in found) / DRAWN == pytest.approx(corpus.WIDE_SHARES.hard, abs=0.04)


def test_the_wide_corpus_is_whole(drawn_wide):
    language, stories = drawn_wide
    assert [s for s in stories if re.search(r"[{}]", s)] == []
    assert sum(measure_story(s, language).broken for s in stories) / DRAWN < 0.01


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_wide_theme_has_whole_plots(language):
    themes = corpus.wide_grammar(language).THEMES
    assert list(themes) == list(corpus.GRAMMARS[language].THEMES)
    assert [name for name, (_, *plot, _) in themes.items() if {len(part) for part in plot} != {6}] == []


@pytest.mark.parametrize(("wide", "kept"), [(False, False), (True, True)])
def test_without_its_faults_only_the_wide_corpus_keeps_nine_tenths_of_its_diversity(wide, kept, monkeypatch):
    def diversity():
        rng, found = random.Random(3), []
        for index in range(300):
            brief = corpus.draw_brief(rng, ("en", "zh")[index % 2])
            found.append(distinct_share([corpus.write_story(rng, brief, wide=wide) for _ in range(4)], brief.language))
        return fmean(found)

    faulty = diversity()
    monkeypatch.setattr(corpus, "WIDE_SHARES" if wide else "SHARES", corpus.Shares(1, 1, 0))
    assert (diversity() > 0.9 * faulty) is kept


@pytest.mark.parametrize(("language", "grammar"), GRAMMARS)
def test_a_prompt_names_theme_type_age_and_hero(language, grammar):
    brief = corpus.draw_brief(random.Random(1), language)
    asked = (
        grammar.THEMES[brief.theme][0],
        grammar.STORY_TYPES[brief.story_type],
        brief.age_band,
        brief.hero,
        brief.name,
    )
    for form in range(len(grammar.PROMPTS)):
        assert all(part in brief.prompt_text(form) for part in asked)


@pytest.mark.parametrize(("language", "grammar"), GRAMMARS)
def test_every_theme_has_whole_plots(language, grammar):
    """Wish, problem, deed and result are chosen by one number: none may be short."""
    odd = [name for name, (_, *plot, _) in grammar.THEMES.items() if len({len(part) for part in plot}) > 1]
    assert odd == []


def test_both_grammars_know_the_same_themes_and_types():
    assert list(grammar_en.THEMES) == list(grammar_zh.THEMES)
    assert list(grammar_en.STORY_TYPES) == list(grammar_zh.STORY_TYPES)


def test_the_corpus_is_english_and_chinese_in_turn():
    texts = list(corpus.pairs(1, 6))
    assert [bool(re.search(r"[\u4e00-\u9fff]", prompt)) for prompt, _ in texts] == [False, True] * 3


def test_the_same_seed_gives_the_same_corpus():
    assert list(corpus.pairs(5, 50)) == list(corpus.pairs(5, 50))


def test_another_seed_gives_another_corpus():
    assert list(corpus.pairs(5, 50)) != list(corpus.pairs(6, 50))


# --- recipe and build --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_the_key_changes_with_every_part_of_the_recipe(name):
    recipe = Recipe()
    value = getattr(recipe, name)
    assert replace(recipe, **{name: not value if isinstance(value, bool) else value * 2}).key() != recipe.key()


def test_the_same_recipe_has_the_same_key():
    assert Recipe().key() == Recipe().key()
    assert re.fullmatch(r"[0-9a-f]{12}", Recipe().key())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(directory, what on_step was told) of a writer built by the quick recipe."""
    steps = []
    directory = tmp_path_factory.mktemp("writers") / "deep" / "writer"
    return build(directory, QUICK, lambda step, total, loss: steps.append((step, total, loss))), steps


def test_a_built_writer_can_be_loaded_and_writes(built):
    engine = TransformersEngine(Weights(built[0]))
    wanted = Request(1, "Write a fable.", SamplingParams(1.0, 1.0, 0.0, seed=1, max_tokens=8))
    assert [c.key for c in engine.write(taking([wanted]))] == [1]


def test_a_build_leaves_safetensors_and_nothing_half_done(built):
    directory, _ = built
    assert (directory / "model.safetensors").exists()
    assert [path.name for path in directory.parent.iterdir()] == ["writer"]


def test_each_step_of_a_build_is_told(built):
    _, steps = built
    assert [(step, total) for step, total, _ in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(0 < loss < 10 for *_, loss in steps)


def test_a_second_build_is_not_trained_again(built):
    steps = []
    before = weights_hash(built[0])
    assert build(built[0], replace(QUICK, seed=9), lambda *step: steps.append(step)) == built[0]
    assert (steps, weights_hash(built[0])) == ([], before)


def test_of_two_builds_at_once_the_second_waits_and_finds_it_done(tmp_path):
    steps = []
    with ThreadPoolExecutor(1) as pool:

        def begin_another(step: int, total: int, loss: float) -> None:
            if step == 1:
                steps.append(pool.submit(build, tmp_path / "writer", QUICK, lambda *told: steps.append(told)))

        build(tmp_path / "writer", QUICK, begin_another)
    (second,) = steps
    assert second.result() == tmp_path / "writer"


def test_the_same_recipe_builds_the_same_weights(built, tmp_path):
    assert weights_hash(build(tmp_path / "again", QUICK)) == weights_hash(built[0])


def test_what_a_killed_build_left_does_not_hinder_the_next(tmp_path):
    left = tmp_path / "writer.tmp"
    left.mkdir()
    (left / "old.safetensors").write_bytes(b"torn")
    directory = build(tmp_path / "writer", QUICK)
    assert not (directory / "old.safetensors").exists()


def test_a_killed_build_leaves_no_writer(tmp_path):
    def killed(step: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "writer", QUICK, killed)
    assert not (tmp_path / "writer").exists()


def test_training_lowers_the_loss(tmp_path):
    losses = []
    build(tmp_path / "writer", replace(QUICK, steps=40), lambda step, total, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_command_needs_a_directory(capsys):
    assert command.main([]) == 2
    assert "python -m generation.demo_writer DIRECTORY" in capsys.readouterr().err


def test_the_command_is_content_with_a_writer_that_is_there(built):
    before = weights_hash(built[0])
    assert command.main([str(built[0])]) == 0
    assert weights_hash(built[0]) == before
