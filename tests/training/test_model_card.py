"""The model card says what the database knows, as the Hub's own library reads it."""

import json
from pathlib import Path

import pytest
from django.test import Client
from django.utils import translation
from huggingface_hub import ModelCard

from annotate.comparisons import close_comparisons
from annotate.models import Comparison
from annotate.pairs import preference_judgements, preference_pairs, write_export
from annotate.winrates import win_rate
from generation.licenses import stated_license
from generation.models import Policy
from generation.summaries import summarise
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from tests.training.stories import judge_all, judged_round
from training.model_card import model_card
from training.models import Round

pytestmark = pytest.mark.django_db


@pytest.fixture
def judged(tmp_path: Path) -> Round:
    """A judged round that was trained on three pairs of a person's and one of a simulated expert."""
    base = make_policy("base", current=True)
    judge_by_story(make_expert(), list(make_comparison(3, policy=base).stories.all()))
    close_comparisons(Comparison.objects.all())
    judge_by_story(make_expert(simulated=True), list(make_comparison(2, policy=base).stories.all()))
    found = judged_round(base=base)
    export = write_export(preference_pairs(preference_judgements(policy=base)), tmp_path / "pairs.jsonl")
    Round.objects.update(export_path=str(export.path), export_sha256=export.sha256, pair_count=export.count)
    Policy.objects.filter(parent=None).update(license="apache-2.0", hub_name="owner/model")
    judge_all(found, wins=0.75)
    return Round.objects.select_related("policy", "result").get()


def of(found: Round, **options: bool) -> ModelCard:
    assert found.result
    return ModelCard(model_card(Policy.objects.get(pk=found.result.pk), **options))


def test_the_hubs_library_reads_its_head(judged: Round) -> None:
    data = of(judged).data
    assert (data.license, data.base_model, data.base_model_relation) == ("apache-2.0", "owner/model", "finetune")
    assert (data.language, data.library_name, data.pipeline_tag) == (["en"], "transformers", "text-generation")
    assert {"storyloop", "dpo"} <= set(data.tags)


def test_an_adapters_head_and_way_to_load_it(judged: Round) -> None:
    card = of(judged, adapter=True)
    assert (card.data.library_name, card.data.base_model_relation) == ("peft", "adapter")
    assert "stands on the weights of **base**" in card.text
    assert "PeftModel.from_pretrained(base" in card.text


def test_it_says_what_it_was_trained_on_and_by_whom(judged: Round) -> None:
    assert f"| round 1 | 4 | 3 | 1 | 0 | `{judged.export_sha256}` |" in of(judged).text


def test_pairs_whose_file_is_gone_are_not_made_up(judged: Round) -> None:
    Round.objects.update(export_path="/nowhere/pairs.jsonl")
    assert f"| round 1 | 4 | ? | ? | ? | `{judged.export_sha256}` |" in of(judged).text


def test_it_has_the_settings_and_the_figures(judged: Round) -> None:
    text = of(judged).text
    assert "| learning_rate | `0.0001` |" in text
    assert "| loss | 0.63 | 0.63 |" in text
    assert "| rewards/accuracies | 0.77 | 0.77 |" in text


def test_it_has_the_win_rate_with_its_interval_and_n(judged: Round) -> None:
    assert judged.result
    rate = win_rate(judged.result, judged.policy, people=True)
    line = f"| base | {rate.percent} % | {rate.percent_low} to {rate.percent_high} % | {rate.n} | 0 |"
    assert rate.n == 24
    assert line in of(judged).text


def test_too_few_judgements_are_not_called_a_rate(judged: Round, settings) -> None:
    settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 25
    assert "| base | not enough judgements | – | 24 | 0 |" in of(judged).text


def test_measures_stand_beside_the_bases(judged: Round) -> None:
    summaries = [summarise(policy) for policy in (judged.policy, judged.result) if policy]
    before, after = (f"{found.mean_words:.1f}" for found in summaries if found)
    text = of(judged).text
    assert "| measured by rules | base | round-1 |" in text
    assert f"| length in words (characters in Chinese) | {before} | {after} |" in text


def test_it_is_in_english_whoever_reads(judged: Round) -> None:
    with translation.override("zh-hans"):
        assert "| clear structure |" in of(judged).text


def test_a_base_alone_has_a_card_and_says_that_its_license_is_not_known() -> None:
    text = model_card(make_policy("base", current=True))
    card = ModelCard(text)
    assert card.data.license is None
    assert card.data.base_model is None
    assert "The license of the base model is not known here." in text
    assert "No preferences of this installation went into it." in text


def test_a_name_that_yaml_would_read_otherwise_does_no_harm(judged: Round) -> None:
    Policy.objects.filter(parent=None).update(hub_name='a: "b"\n- c | d', name="ba|se")
    assert of(judged).data.base_model == 'a: "b"\n- c | d'
    assert "| ba\\|se |" in of(judged).text


def test_it_can_be_downloaded(judged: Round, client: Client, django_user_model) -> None:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    assert judged.result
    response = client.get(f"/policies/{judged.result_id}/README.md")
    assert response.headers["Content-Disposition"] == 'attachment; filename="round-1-README.md"'
    assert ModelCard(response.content.decode()).data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, ""),
        ({"README.md": "---\nlicense: MIT\ntags: [a]\n---\n# A model"}, "mit"),
        ({"README.md": "---\nlicense:\n- cc-by-4.0\n---\n"}, "cc-by-4.0"),
        ({"README.md": "no front matter\nlicense: mit"}, ""),
        ({"LICENSE": "   Apache License\n   Version 2.0, January 2004\n"}, "apache-2.0"),
        ({"LICENSE.txt": "MIT License\n\nCopyright"}, "mit"),
        ({"LICENCE": "You may do what we like"}, "other"),
        ({"LICENSE": "MIT License", "README.md": "---\nlicense: llama3.2\n---\n"}, "llama3.2"),
    ],
)
def test_a_folder_states_its_license(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert stated_license(tmp_path) == said


def test_what_people_and_simulated_experts_decided_together_is_counted_apart(judged: Round) -> None:
    path = Path(judged.export_path).with_name("mixed.jsonl")
    rows = [{"judgements_for": 2, "judgements_against": 1, "simulated_judgements": n} for n in (0, 1, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Round.objects.update(export_path=str(path), pair_count=3)
    assert "| round 1 | 3 | 1 | 1 | 1 |" in of(judged).text
