"""Sampling: whatever is drawn decodes; prompts stay; one seed, one result; the cache changes nothing."""

import pytest
import torch
from hypothesis import given, strategies as st

from tests.lm.small import random_codes, small_model
from vqaudio.lm.model import code_bits
from vqaudio.lm.sample import Sampled, Sampling, draw, sample

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(
    kind=st.sampled_from(["delay", "flat", "parallel"]),
    sizes=SIZES,
    num_frames=st.integers(1, 14),
    prompt_frames=st.integers(0, 13),
    window=st.integers(2, 20),
    temperature=st.sampled_from([0.0, 0.7, 5.0]),
    top_k=st.sampled_from([None, 1, 3]),
    top_p=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_whatever_is_drawn_decodes_and_begins_with_its_prompt(
    kind: str,
    sizes: list[int],
    num_frames: int,
    prompt_frames: int,
    window: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    seed: int,
) -> None:
    model = small_model(kind, sizes, window=window, seed=seed)
    prompt = torch.stack([random_codes(sizes, prompt_frames % num_frames, seed=seed + item) for item in range(2)])
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    codes = sample(model, num_frames=num_frames, prompt=prompt, sampling=sampling).codes
    assert codes.shape == (2, len(sizes), num_frames)
    assert torch.equal(codes[..., : prompt.shape[-1]], prompt)
    assert (codes >= 0).all() and (codes < torch.tensor(sizes)[:, None]).all()


@pytest.mark.parametrize("kind", ["delay", "flat", "parallel"])
def test_a_prompt_stays_as_it_is(kind: str) -> None:
    """Also its last frames, whose higher codes come after the first new ones if they are delayed."""
    model = small_model(kind, (50, 70, 40))
    prompt = random_codes((50, 70, 40), 5)[None]
    codes = sample(model, num_frames=12, prompt=prompt).codes
    assert torch.equal(codes[..., :5], prompt)


@pytest.mark.parametrize("kind", ["delay", "flat", "parallel"])
def test_the_likeliest_is_what_the_model_finds_likeliest(kind: str) -> None:
    """Each code of a greedy sample costs no more than any other there; found by the other way, without a cache."""
    model = small_model(kind, window=64)
    (codes,) = sample(model, num_frames=6, sampling=Sampling(temperature=0)).codes
    chosen = code_bits(model, [codes])[0]
    for k, size in enumerate((5, 7)):
        for n in range(6):
            others = []
            for code in range(size):
                other = codes.clone()
                other[k, n] = code
                others.append(other)
            costs = torch.stack(code_bits(model, others))[:, k, n]
            assert chosen[k, n] <= costs.min() + 1e-4


def test_draws_have_the_probabilities_of_the_model() -> None:
    """The first code of many samples, against what each code costs."""
    model = small_model("delay", (5,))
    codes = sample(model, num_frames=1, num_items=2000, sampling=Sampling(seed=1)).codes[:, 0, 0]
    found = torch.bincount(codes, minlength=5) / 2000
    expected = 2 ** -torch.stack(code_bits(model, [torch.tensor([[code]]) for code in range(5)]))[:, 0, 0]
    torch.testing.assert_close(found.double(), expected, atol=0.045, rtol=0)  # four standard deviations


def test_one_seed_one_result() -> None:
    model = small_model()

    def codes(seed: int) -> torch.Tensor:
        return sample(model, num_frames=30, num_items=2, sampling=Sampling(seed=seed)).codes

    torch.manual_seed(1)
    first = codes(3)
    torch.manual_seed(2)
    assert torch.equal(first, codes(3)) and not torch.equal(first, codes(4))
    assert not torch.equal(first[0], first[1])


def test_only_the_likeliest_are_drawn() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, 3.0, -torch.inf]).expand(500, -1)

    def drawn(**settings: float | int) -> set[int]:
        sampling = Sampling(**settings)  # type: ignore[arg-type]
        return set(draw(logits, sampling, torch.Generator().manual_seed(0)).tolist())

    assert drawn(temperature=10.0) == {0, 1, 2, 3}
    assert drawn(temperature=10.0, top_k=2) == {1, 3}
    assert drawn(top_p=0.5) == {3}  # which has 0.64 alone
    assert drawn(top_p=0.8) == {1, 3}
    assert drawn(temperature=0) == {3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]


def test_prompts_that_do_not_fit_are_refused() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"wanted is \(B, 2, P\)"):
        sample(model, num_frames=5, prompt=torch.zeros(1, 3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="nothing to write"):
        sample(model, num_frames=5, prompt=torch.zeros(1, 2, 5, dtype=torch.int64))


def test_speed_counts_what_was_drawn() -> None:
    sampled = Sampled(
        torch.zeros(2, 4, 60, dtype=torch.int64), num_tokens=2 * 4 * 50, seconds=2.0, processor_seconds=1.0
    )
    assert sampled.tokens_per_second == 200
    assert sampled.times_real_time(model_rate := small_model().space.frame_rate) == pytest.approx(
        2 * 50 / float(model_rate) / 2.0
    )
