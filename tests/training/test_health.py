"""What a health check says, of real logs and of made-up lines.

logs/collapsed.jsonl, logs/levels.jsonl: short runs spoilt on purpose, on 5 hours of speech. `vqaudio train` with
    recipes/vqvae_16k --steps 400 --codec.quantizer.revive_below 0 --optimizer.learning_rate 5e-3 --losses.commitment 0
        --quantizer.quantize_after 0 --report.validate-every 50 --report.validation-clips 12
    recipes/speech_16k --steps 300 --codec.quantizer.revive_below 0 --optimizer.learning_rate 3e-3
        --losses.commitment 0.25 --losses.residual 0 --quantizer.quantize_after 0 --codec.quantizer.normalize true
        --data.batch_size 4 --report.validate-every 50 --report.validation-clips 6
logs/recovers.jsonl: a run that is well, and looks ill until its dead codes are revived for the first time.
    recipes/vqvae_16k --steps 500 --quantizer.quantize_after 50 --report.validate-every 50
"""

import math
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, strategies as st

from tests.training.test_recipes import CODEC_RECIPES
from vqaudio import pretrained
from vqaudio.config import to_dict
from vqaudio.models import CodecConfig
from vqaudio.quantize import FSQConfig, VQConfig
from vqaudio.quantize.vq import Codebook
from vqaudio.training.health import Finding, HealthCheck, replay
from vqaudio.training.health_rules import (
    STRETCH,
    batches_to_die,
    codebook_health,
    codebook_sizes,
    useless_levels,
)
from vqaudio.training.history import read_log
from vqaudio.training.recipe import Recipe, load_recipe

LOGS = Path(__file__).parent / "logs"
RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes"
SHIPPED = sorted(path.parent for path in Path(pretrained.__file__).parent.glob("*/log.jsonl"))
GOOD, BAD = [600.0, 700.0], [20.0, 700.0]  # perplexities of two codebooks of 1024


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]


def settled(sizes: tuple[int, ...] = (1024, 1024), **settings: Any) -> HealthCheck:
    """A check that has seen a quantised step long ago."""
    check = HealthCheck(sizes, **settings)
    check.validation(0, {"perplexity": [size * 0.7 for size in sizes]})
    return check


def run_of(name: str, tmp_path: Path) -> Path:
    shutil.copy(LOGS / f"{name}.jsonl", tmp_path / "log.jsonl")
    return tmp_path


# ---- real runs


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_nothing_is_said_of_the_runs_that_ship(folder: Path) -> None:
    assert replay(read_log(folder)) == []


def test_nothing_is_said_of_a_codebook_that_recovers(tmp_path: Path) -> None:
    history = read_log(run_of("recovers", tmp_path))
    perplexity = history.lists("validation")["perplexity"][0].values
    assert min(perplexity) < 0.05 * 512 < 0.6 * 512 < perplexity[-1]  # or this would show nothing
    assert replay(history) == []


def test_runs_that_were_spoilt_are_named(tmp_path: Path) -> None:
    ((step, finding),) = replay(read_log(run_of("collapsed", tmp_path)))
    assert finding.name == "codebook collapse"
    assert step == 300
    assert "codebook 1: perplexity 2.5 of 512" in finding.message
    assert "revive_below above 0" in finding.remedy

    found = replay(read_log(run_of("levels", tmp_path)))
    assert [finding.name for _, finding in found] == ["codebook collapse", "levels that add nothing"]
    assert found[0][1].message.startswith("codebooks 3 to 8: perplexity 89 of 1,024, 81.4 of 1,024, …, 31.9 of 1,024")
    assert found[1][1].message.startswith("codebooks 1 to 8: residual energy 1 before and 8.76 after")
    assert "losses.residual at 1" in found[1][1].remedy  # which it was not


# ---- once for each cause


def test_a_collapse_is_told_once_until_it_has_gone() -> None:
    check = settled()
    lines = [GOOD, BAD, BAD, BAD, GOOD, BAD, BAD]
    told = [names(check.validation(1000 * (1 + number), {"perplexity": row})) for number, row in enumerate(lines)]
    collapse = ["codebook collapse"]
    assert told == [[], [], collapse, [], [], [], collapse]


def test_a_codebook_that_falls_later_is_told_by_itself() -> None:
    check = settled()
    for step in (1000, 2000):
        check.validation(step, {"perplexity": BAD})
    assert check.validation(3000, {"perplexity": [20.0, 30.0]}) == []
    (finding,) = check.validation(4000, {"perplexity": [20.0, 30.0]})
    assert finding.message == "codebook 2: perplexity 30 of 1,024 on the validation clips"


def test_one_code_is_told_at_once_and_not_a_number_counts_as_low() -> None:
    assert names(settled().validation(1000, {"perplexity": [1.0007, 700.0]})) == ["codebook collapse"]
    check = settled()
    told = [names(check.validation(step, {"perplexity": [math.nan, 700.0]})) for step in (1000, 2000)]
    assert told == [[], ["codebook collapse"]]


def test_codebooks_are_not_judged_right_after_they_begin() -> None:
    check = HealthCheck((1024, 1024), batches_to_die=100.0)
    assert check.training(500, {"loss": 1.0}) == []  # not quantised yet
    check.training(1000, {"loss": 1.0, "residual_energy": [0.9, 0.8], "revived": [0.0, 0.0]})
    told = [names(check.validation(step, {"perplexity": BAD})) for step in (1050, 1100, 1199, 1200, 1250)]
    assert told == [[], [], [], [], ["codebook collapse"]]


def test_few_validation_frames_do_not_look_like_a_collapse() -> None:
    few, many = [settled(num_frames=count) for count in (50, 5000)]
    for step in (1000, 2000, 3000):
        assert few.validation(step, {"perplexity": [35.0, 38.0]}) == []
        many.validation(step, {"perplexity": [35.0, 38.0]})
    assert few.validation(4000, {"perplexity": [4.0, 38.0]}) == []
    assert names(few.validation(5000, {"perplexity": [4.0, 38.0]})) == ["codebook collapse"]
    assert many._told  # the same numbers on many frames are one


# ---- levels


@given(st.lists(st.floats(0.02, 0.97), min_size=1, max_size=12), st.data())
def test_levels_that_take_something_away_are_useful_and_a_repeated_one_is_not(
    factors: list[float], data: st.DataObject
) -> None:
    energy = [math.prod(factors[: index + 1]) for index in range(len(factors))]
    assert useless_levels(energy) == []
    index = data.draw(st.integers(0, len(energy) - 1))
    repeated = [*energy[: index + 1], *energy[index:]]
    assert useless_levels(repeated) == ([index + 1] if energy[index] >= 0.01 else [])


def test_levels_that_leave_more_than_there_was_are_useless_though_they_fall() -> None:
    assert useless_levels([1.4, 1.2, 1.1]) == [0, 1, 2]
    assert useless_levels([1.4, 0.5]) == [0]
    assert useless_levels([math.nan]) == [0]


# ---- codes that keep dying


def revive(check: HealthCheck, counts: list[float], lines: int, first: int = 1000) -> list[str]:
    told = []
    for number in range(lines):
        told += names(check.training(first + 20 * number, {"loss": 1.0, "revived": counts}))
    return told


def test_a_tail_that_is_revived_is_normal_and_half_a_codebook_is_not() -> None:
    check = settled()
    assert revive(check, [2.6, 2.6], 4 * STRETCH) == []
    assert revive(check, [7.0, 2.0], STRETCH, first=5000) == ["codes that keep dying"]
    assert revive(check, [7.0, 2.0], STRETCH, first=8000) == []
    assert revive(check, [0.0, 2.0], STRETCH // 2, first=9000) == []  # it has gone
    assert revive(check, [7.0, 2.0], STRETCH, first=9100) == ["codes that keep dying"]


def test_a_burst_of_revivals_is_not_dying() -> None:
    check = settled()
    assert revive(check, [300.0, 300.0], 3) + revive(check, [0.0, 0.0], STRETCH) == []


@pytest.mark.parametrize(("ema_decay", "revive_below"), [(0.97, 0.2), (0.9, 0.5)])
@pytest.mark.parametrize(("num_places", "expected"), [(128, []), (8, ["codes that keep dying"])])
def test_codes_that_a_real_codebook_has_no_use_for_are_noticed(
    ema_decay: float, revive_below: float, num_places: int, expected: list[str]
) -> None:
    generator = torch.Generator().manual_seed(0)
    places = 100 * torch.randn(num_places, 2, generator=generator)
    table = Codebook(2, 128, ema_decay=ema_decay, revive_below=revive_below)
    table.fit(places.repeat(50, 1), generator=generator)
    check = settled((128,), batches_to_die=batches_to_die(ema_decay=ema_decay, revive_below=revive_below))
    told = []
    for step in range(2000, 2900):
        x = places[torch.randint(num_places, (2048,), generator=generator)]
        revived = table.learn(x, table.nearest(x), generator=generator)
        if step % 20 == 19:
            told += names(check.training(step, {"loss": 1.0, "revived": [float(len(revived))]}))
    assert told == expected


@pytest.mark.parametrize("revival", ["vector", "split"])
def test_a_revived_code_without_use_dies_when_it_is_said_to(revival: Literal["vector", "split"]) -> None:
    """Eight places for 64 codes: most of them wait for their next death."""
    generator = torch.Generator().manual_seed(0)
    places = 100 * torch.randn(8, 2, generator=generator)
    table = Codebook(2, 64, ema_decay=0.97, revive_below=0.2, revival=revival)
    table.fit(places.repeat(50, 1) + torch.randn(400, 2, generator=generator), generator=generator)
    born: dict[int, int] = {}
    lives: list[int] = []
    used = torch.zeros(64, dtype=torch.bool)
    for batch in range(600):
        x = places[torch.randint(8, (512,), generator=generator)]
        indices = table.nearest(x)
        used[indices] = True
        for row in table.learn(x, indices, generator=generator).tolist():
            if row in born and not used[row]:
                lives.append(batch - born[row])
            born[row], used[row] = batch, False
    said = batches_to_die(ema_decay=0.97, revive_below=0.2, revival=revival)
    assert len(lives) > 50
    assert sorted(lives)[len(lives) // 2] == pytest.approx(said, rel=0.1)
    settings = {"codec": {"quantizer": {"ema_decay": 0.97, "revive_below": 0.2, "revival": revival}}}
    assert HealthCheck.of(settings).batches_to_die == said


# ---- losses that are not finite


def test_many_skipped_batches_are_told_and_a_few_are_not() -> None:
    check = HealthCheck((16,))
    assert [names(check.skipped(step)) for step in range(0, 9 * 50, 50)] == [[]] * 9
    assert names(check.skipped(450)) == ["losses not finite"]
    assert check.skipped(500) == []
    check.training(1600, {"loss": 1.0})  # none for a long time
    assert names([finding for step in range(10) for finding in check.skipped(2000 + step)]) == ["losses not finite"]


def test_skipped_batches_far_apart_are_not_told() -> None:
    check = HealthCheck((16,))
    assert [check.skipped(step) for step in range(0, 20_000, 200)] == [[]] * 100


def test_a_logged_loss_that_is_not_finite_counts_as_well() -> None:
    check = HealthCheck((16,))
    found = [finding for step in range(0, 240, 20) for finding in check.training(step, {"loss": math.nan})]
    assert names(found) == ["losses not finite"]


# ---- discriminators


def play(check: HealthCheck, lines: int, loss: float, matching: float, *, rise: float = 0.0) -> list[str]:
    told = []
    for number in range(lines):
        values = {"loss": 1.0, "discriminator": loss, "feature_matching": matching * (1 + rise * number / lines)}
        told += names(check.training(20 * number, values))
    return told


def test_a_balanced_game_is_left_alone() -> None:
    assert play(HealthCheck((16,)), 200, 1.7, 0.5) == []
    assert play(HealthCheck((16,)), 200, 0.1, 0.5, rise=-0.5) == []  # ahead, and the codec still learns from it


def test_discriminators_that_have_won_are_told_once() -> None:
    check = HealthCheck((16,))
    assert play(check, 100, 0.05, 0.5, rise=1.0) == ["discriminators have won"]
    assert play(check, 100, 1.5, 0.5) == []
    assert play(check, 100, 0.05, 0.5, rise=1.0) == ["discriminators have won"]


def test_blind_discriminators_are_told_by_the_game_they_play() -> None:
    assert play(HealthCheck((16,), chance=2.0), 120, 1.99, 0.5) == ["discriminators are blind"]
    assert play(HealthCheck((16,), chance=0.5), 120, 1.99, 0.5) == []
    assert HealthCheck.of({"adversarial": {"game": "least_squares"}}).chance == 0.5
    assert HealthCheck.of({}).chance == 2.0


# ---- recipes and tables


@pytest.mark.parametrize("folder", CODEC_RECIPES)
def test_the_check_knows_the_codebooks_of_every_recipe(folder: str) -> None:
    recipe = load_recipe(RECIPES / folder)
    check = HealthCheck.of(to_dict(recipe))
    assert check.codebook_sizes == recipe.codec.build().codebook_sizes
    report = recipe.report
    frames = report.validation_clips * report.validation_seconds * recipe.codec.sample_rate / recipe.codec.hop_length
    assert check.num_frames == pytest.approx(frames, abs=1)


def test_the_codebooks_of_other_quantisers_are_known() -> None:
    for quantizer in (FSQConfig(num_codebooks=2, levels=(4, 3)), VQConfig(codebook_size=32)):
        codec = CodecConfig(quantizer=quantizer)
        settings = to_dict(Recipe(name="x", codec=codec))
        assert codebook_sizes(settings) == quantizer.build().codebook_sizes
    assert codebook_sizes({}) == ()
    assert HealthCheck.of({}).validation(0, {"perplexity": [1.0], "residual_energy": [0.5]}) == []


def test_levels_are_judged_even_where_codebook_sizes_are_not_known() -> None:
    check = HealthCheck.of({})
    told = [names(check.validation(step, {"residual_energy": [0.9, 0.9]})) for step in (0, 300, 600)]
    assert told == [[], [], ["levels that add nothing"]]


def test_the_health_of_codebooks_is_read_off_lines() -> None:
    scores = {"used": [8, 3], "perplexity": [4.0, 2.0], "entropy_bits": [2.0, 1.0], "residual_energy": [0.5, 0.2]}
    training = [{"revived": [1.0, 0.0]}, {"revived": [3.0, 1.0]}, {"loss": 1.0}]
    first, second = codebook_health((16, 4), scores, training)
    assert (first.used, first.revived, first.perplexity_share, first.efficiency) == (8, 2.0, 0.25, 0.5)
    assert (second.residual_energy, second.revived, second.perplexity_share, second.efficiency) == (0.2, 0.5, 0.5, 0.5)
    (absent,) = codebook_health((16,), {})
    assert (absent.used, absent.perplexity_share, absent.efficiency, absent.revived) == (None, None, None, None)
