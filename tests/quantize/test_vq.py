"""One codebook: nearest code, the paper's losses, averages that can be followed by hand, and codes that come back."""

import copy

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.nn import functional as F

from vqaudio.quantize import Codebook, VectorQuantizer, VQConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codebook(vectors: Tensor, **settings: object) -> Codebook:
    """A codebook of these vectors (V, d), as if each had uniform use."""
    table = Codebook(vectors.shape[1], len(vectors), **settings)  # type: ignore[arg-type]
    table.vectors.data.copy_(vectors)
    table.reset_statistics()
    return table


def clusters(count: int, *, spacing: float = 10.0) -> Tensor:
    """(count, 3) centres on a cube's grid, `spacing` apart."""
    side = round(count ** (1 / 3))
    steps = torch.arange(side) * spacing
    return torch.cartesian_prod(steps, steps, steps)[:count] - spacing * (side - 1) / 2


# ---- search


@given(
    seed=st.integers(0, 10_000),
    num_rows=st.integers(0, 20),
    size=st.integers(1, 30),
    dim=st.integers(1, 4),
)
def test_nearest_is_the_least_distance_and_ties_go_to_the_lowest_index(
    seed: int, num_rows: int, size: int, dim: int
) -> None:
    # small integers: every product and sum is exact, and ties are frequent
    vectors = torch.randint(-2, 3, (size, dim), generator=seeded(seed)).float()
    x = torch.randint(-3, 4, (num_rows, dim), generator=seeded(seed + 1)).float()
    distances = (x.double()[:, None] - vectors.double()[None]).square().sum(dim=-1)
    expected = [min(range(size), key=row.__getitem__) for row in distances.tolist()]
    assert codebook(vectors).nearest(x).tolist() == expected


@given(seed=st.integers(0, 10_000))
def test_nearest_is_within_rounding_of_a_search_in_float64(seed: int) -> None:
    vectors = torch.randn(50, 8, generator=seeded(seed))
    x = torch.randn(40, 8, generator=seeded(seed + 1))
    distances = torch.cdist(x.double(), vectors.double()).square()
    chosen = distances.gather(1, codebook(vectors).nearest(x)[:, None])[:, 0]
    assert (chosen - distances.min(dim=1).values).max() < 1e-5


def test_rows_beyond_one_chunk_are_searched_alike() -> None:
    vectors, x = torch.eye(4), torch.eye(4).repeat(5_000, 1)
    assert torch.equal(codebook(vectors).nearest(x), torch.arange(4).repeat(5_000))


def test_normalised_search_goes_by_the_angle() -> None:
    table = codebook(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), normalize=True)
    x = torch.tensor([[0.2, 0.1], [10.0, 11.0], [-3.0, -1.0]])
    assert table.nearest(table.normalized(x)).tolist() == [0, 1, 1]


# ---- the paper's bottleneck


def quantizer(update: str, *, revive_below: float = 0.0) -> VectorQuantizer:
    quantizer = VQConfig(dim=3, codebook_size=4, update=update, revive_below=revive_below).build()  # type: ignore[arg-type]
    quantizer.table.vectors.data.copy_(torch.randn(4, 3, generator=seeded(1)))
    quantizer.table.reset_statistics()
    return quantizer


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_losses_are_summed_over_dimensions_and_averaged_over_frames(update: str) -> None:
    vq, z = quantizer(update), torch.randn(2, 3, 5, generator=seeded())
    out = vq.eval()(z)
    total = 0.0
    for item in range(2):
        for frame in range(5):
            code = vq.table.vectors[out.codes[item, 0, frame]]
            total += sum((z[item, d, frame] - code[d]).item() ** 2 for d in range(3))
    assert out.losses["commitment"].item() == pytest.approx(total / 10, rel=1e-5)
    assert set(out.losses) == ({"commitment", "codebook"} if update == "gradient" else {"commitment"})
    if update == "gradient":
        assert out.losses["codebook"].item() == pytest.approx(total / 10, rel=1e-5)


def test_simvq_moves_its_map_alone_and_all_codes_with_it() -> None:
    """arXiv 2411.02038: the vectors are frozen; the codebook loss of a few chosen codes moves every code."""
    table = VQConfig(dim=3, codebook_size=16, update="simvq").build().table
    vectors, codes = table.vectors.clone(), table.codes.detach().clone()
    assert [name for name, _ in table.named_parameters()] == ["transform.weight", "transform.bias"]
    torch.testing.assert_close(codes, vectors @ table.transform.weight.t() + table.transform.bias)
    x = torch.randn(20, 3, generator=seeded(4))
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    before = (x - table.lookup(table.nearest(x))).square().sum().item()
    for _ in range(30):
        optimizer.zero_grad()
        (x - table.lookup(table.nearest(x))).square().sum(dim=-1).mean().backward()
        optimizer.step()
    assert (x - table.lookup(table.nearest(x))).square().sum().item() < 0.5 * before
    assert torch.equal(table.vectors, vectors)
    assert ((table.codes - codes).abs().max(dim=1).values > 1e-3).all()


def test_simvq_starts_with_the_mean_and_covariance_of_the_latents() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        table = Codebook(3, 4096, update="simvq")
    mix = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, -0.3, 0.1]])
    x = torch.randn(5000, 3, generator=seeded(1)) @ mix + torch.tensor([1.0, -2.0, 0.5])
    vectors = table.vectors.clone()
    table.fit(x, generator=seeded())
    assert torch.equal(table.vectors, vectors)
    torch.testing.assert_close(table.codes.mean(dim=0), x.mean(dim=0), atol=0.15, rtol=0)
    torch.testing.assert_close(table.codes.t().cov(), x.t().cov(), atol=0.3, rtol=0)


def test_simvq_revives_nothing() -> None:
    table = Codebook(3, 8, update="simvq", revive_below=0.9)
    x = torch.randn(20, 3, generator=seeded(4))
    codes = table.codes.detach().clone()
    for _ in range(5):
        assert len(table.learn(x, table.nearest(x), generator=seeded())) == 0
    assert torch.equal(table.codes, codes)
    assert not torch.equal(table.ema_counts, torch.ones(8))  # use is counted all the same


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_gradient_is_copied_straight_through(update: str) -> None:
    vq, z = quantizer(update), torch.randn(2, 3, 5, generator=seeded(), requires_grad=True)
    upstream = torch.randn(2, 3, 5, generator=seeded(2))
    vq(z).latents.backward(upstream)
    assert z.grad is not None and torch.equal(z.grad, upstream)
    assert vq.table.vectors.grad is None  # the codebook learns from its own loss or averages alone


def test_each_loss_moves_its_own_side() -> None:
    vq, z = quantizer("gradient"), torch.randn(1, 3, 5, generator=seeded(), requires_grad=True)
    out = vq(z)
    difference = z.detach() - vq.decode(out.codes).detach()
    (grad_z,) = torch.autograd.grad(out.losses["commitment"], z, retain_graph=True)
    torch.testing.assert_close(grad_z, 2 * difference / 5)
    assert torch.autograd.grad(out.losses["commitment"], vq.table.vectors, allow_unused=True, retain_graph=True) == (
        None,
    )
    (grad_codes,) = torch.autograd.grad(out.losses["codebook"], vq.table.vectors, retain_graph=True)
    expected = torch.zeros(4, 3).index_add(0, out.codes.flatten(), -2 * difference[0].t() / 5)
    torch.testing.assert_close(grad_codes, expected)
    assert torch.autograd.grad(out.losses["codebook"], z, allow_unused=True) == (None,)


# ---- learning by averages


def test_two_updates_by_hand() -> None:
    table = codebook(torch.tensor([[0.0], [10.0]]), ema_decay=0.5, revive_below=0.0)
    table.learn(torch.tensor([[1.0], [3.0], [12.0]]), torch.tensor([0, 0, 1]), generator=None)
    # counts (1, 1) -> (1.5, 1); sums (0, 10) -> (2, 11)
    torch.testing.assert_close(table.ema_counts, torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(table.ema_sums, torch.tensor([[2.0], [11.0]]))
    torch.testing.assert_close(table.vectors, torch.tensor([[2.0 / 1.5], [11.0]]))
    table.learn(torch.tensor([[5.0]]), torch.tensor([1]), generator=None)
    # counts -> (0.75, 1); sums -> (1, 8)
    torch.testing.assert_close(table.ema_counts, torch.tensor([0.75, 1.0]))
    torch.testing.assert_close(table.vectors, torch.tensor([[1.0 / 0.75], [8.0]]))


def test_codes_settle_on_the_means_of_their_clusters() -> None:
    centres = clusters(8)
    table = codebook(centres + 1.0, ema_decay=0.9, revive_below=0.0)
    for step in range(100):
        x = centres.repeat(4, 1) + 0.1 * torch.randn(32, 3, generator=seeded(step))
        table.learn(x, table.nearest(x), generator=None)
    torch.testing.assert_close(table.vectors, centres, atol=0.05, rtol=0)


def test_code_that_nothing_meets_stays_where_it_is() -> None:
    table = codebook(torch.tensor([[0.0], [10.0]]), ema_decay=0.5, revive_below=0.0)
    for _ in range(300):  # its count decays to zero
        table.learn(torch.tensor([[1.0]]), torch.tensor([0]), generator=None)
    torch.testing.assert_close(table.vectors, torch.tensor([[1.0], [10.0]]))


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_normalised_codes_keep_unit_length(update: str) -> None:
    table = Codebook(4, 16, update=update, normalize=True, revive_below=0.5)  # type: ignore[arg-type]
    x = table.normalized(torch.randn(200, 4, generator=seeded()))
    x[:50] = 0.0  # digital silence has no direction, and must not become a code
    table.fit(x, generator=seeded())
    optimizer = torch.optim.SGD([table.vectors], lr=1.0) if update == "gradient" else None
    for step in range(20):
        batch = table.normalized(torch.randn(32, 4, generator=seeded(step)).abs())  # one corner: others die
        batch[::2] = 0.0
        indices = table.nearest(batch)
        if optimizer:
            (batch - table.lookup(indices)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        table.learn(batch, indices, generator=seeded(step))
        codes = table.lookup(torch.arange(16))
        torch.testing.assert_close(codes.norm(dim=-1), torch.ones(16))


# ---- dead codes


def test_revived_code_survives_the_next_update() -> None:
    table = codebook(torch.tensor([[0.0], [1000.0]]), ema_decay=0.5, revive_below=0.1)
    x, indices = torch.tensor([[-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 0])
    revived = torch.zeros(0)
    while len(revived) == 0:
        revived = table.learn(x, indices, generator=seeded())
    assert revived.tolist() == [1]
    reborn = table.vectors[1].clone()
    assert reborn.item() in (-1.0, 1.0, 2.0), "a revived code is one of the batch's vectors"
    # even if the next batch does not use it
    assert len(table.learn(x, indices, generator=seeded())) == 0
    torch.testing.assert_close(table.vectors[1], reborn)
    # and if it does, it moves by an average, not back to where it died
    table.learn(x, table.nearest(x), generator=seeded())
    assert -1.0 <= table.vectors[1].item() <= 2.0


def test_sixty_dead_codes_of_64_come_to_use() -> None:
    centres = clusters(64)
    start = torch.cat([centres[:4], torch.full((60, 3), 1e4)])
    table = codebook(start, ema_decay=0.9, revive_below=0.1)
    used = set()
    for step in range(200):
        x = centres.repeat(4, 1) + 0.2 * torch.randn(256, 3, generator=seeded(step))
        indices = table.nearest(x)
        table.learn(x, indices, generator=seeded(1000 + step))
        if step >= 195:
            used |= set(indices.tolist())
    assert len(used) == 64
    # and each cluster is met closely, or by a neighbour's code: nothing is left out in the far
    assert table.vectors.abs().max() < 20


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_what_counts_as_dead_is_a_fraction_of_uniform_use(update: str) -> None:
    """The same data at any batch size lets the same codes live."""
    for repeats in (1, 100):
        table = codebook(clusters(8), update=update, ema_decay=0.5, revive_below=0.3)
        indices = torch.tensor([0] * 3 + [1] * 2 + [2, 3, 4, 5, 6]).repeat(repeats)
        x = clusters(8)[indices]
        revived = torch.cat([table.learn(x, indices, generator=seeded()) for _ in range(20)])
        assert set(revived.tolist()) == {7}


def test_a_split_code_is_reborn_beside_one_of_much_use_and_takes_half_its_count() -> None:
    table = codebook(torch.tensor([[0.0], [10.0], [1000.0]]), ema_decay=0.5, revive_below=0.1, revival="split")
    x, indices = torch.tensor([[-1.0], [1.0], [-1.0], [1.0], [10.0]]), torch.tensor([0, 0, 0, 0, 1])
    revived = torch.zeros(0)
    while len(revived) == 0:
        before = table.ema_counts.clone()
        revived = table.learn(x, indices, generator=seeded())
    assert revived.tolist() == [2]
    after = before.lerp(torch.tensor([4.0, 1.0, 0.0]), 0.5)  # moved by the batch, then shared between 0 and 2
    torch.testing.assert_close(table.ema_counts, torch.tensor([after[0] / 2, after[1], after[0] / 2]))
    assert abs(table.vectors[2].item()) == pytest.approx(0.1, abs=0.01), "a tenth of the way to a vector of its cell"
    torch.testing.assert_close(table.ema_sums, table.vectors * table.ema_counts.unsqueeze(-1))
    assert table.nearest(x).bincount(minlength=3).tolist() == [2, 1, 2]
    assert len(table.learn(x, table.nearest(x), generator=seeded())) == 0


def test_in_many_dimensions_codes_that_are_split_come_to_rest_and_vectors_do_not() -> None:
    """Residuals look like this: noise around nothing. The mean of a cell is nearer to all of it than any vector."""
    revived, perplexity = {}, {}
    for revival in ("vector", "split"):
        start = torch.cat([0.1 * torch.randn(16, 64, generator=seeded()), torch.full((112, 64), 1e3)])
        table = codebook(start, ema_decay=0.95, revive_below=0.2, revival=revival)
        counts, deaths = torch.zeros(128), 0
        for step in range(300):
            x = torch.randn(512, 64, generator=seeded(step))
            indices = table.nearest(x)
            rows = table.learn(x, indices, generator=seeded(1000 + step))
            if step >= 200:
                counts += indices.bincount(minlength=128)
                deaths += len(rows)
        share = counts / counts.sum()
        revived[revival], perplexity[revival] = deaths, (-(share * (share + 1e-12).log()).sum()).exp().item()
    assert revived["split"] < 0.5 * revived["vector"], revived
    assert perplexity["split"] > perplexity["vector"] and perplexity["split"] > 64, perplexity


def test_zero_threshold_never_revives() -> None:
    table = codebook(clusters(8), ema_decay=0.1, revive_below=0.0)
    for _ in range(10):
        assert len(table.learn(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), generator=None)) == 0
    torch.testing.assert_close(table.vectors[1:], clusters(8)[1:])


def test_revived_rows_of_a_parameter_are_told() -> None:
    vq = quantizer("gradient", revive_below=0.5)
    vq.table.vectors.data[2:] = 1e3
    vq.table.ema_decay = 0.5
    z, out = torch.randn(2, 3, 5, generator=seeded()), None
    while out is None or not out.revived:
        before = vq.table.vectors.detach().clone()
        out = vq.train()(z, generator=seeded())
    (reborn,) = out.revived
    assert reborn.vectors is vq.table.vectors
    changed = (vq.table.vectors.detach() != before).any(dim=-1).nonzero().flatten()
    assert torch.equal(reborn.rows, changed) and {2, 3} <= set(changed.tolist())
    assert out.stats["revived"].tolist() == [len(changed)]
    reborn.undo()
    assert torch.equal(vq.table.vectors.detach(), before)


def test_revived_rows_of_averages_are_counted_only() -> None:
    vq = quantizer("ema", revive_below=0.9)
    vq.table.ema_decay = 0.5
    out = vq.train()(torch.zeros(1, 3, 5), generator=seeded())
    assert out.revived == () and out.stats["revived"].tolist() == [3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_batch_that_is_not_finite_teaches_nothing(update: str, bad: float) -> None:
    table = codebook(clusters(8), update=update, revive_below=0.9)
    before = copy.deepcopy(table.state_dict())
    x = torch.randn(5, 3, generator=seeded())
    x[3, 1] = bad
    generator = seeded()
    assert len(table.learn(x, torch.zeros(5, dtype=torch.int64), generator=generator)) == 0
    assert all(torch.equal(value, before[key]) for key, value in table.state_dict().items())
    assert torch.equal(generator.get_state(), seeded().get_state())


# ---- k-means


@pytest.mark.parametrize("normalize", [False, True])
def test_fit_uses_every_code_and_beats_random_rows(normalize: bool) -> None:
    x = torch.randn(1_000, 4, generator=seeded()) * torch.tensor([3.0, 1.0, 1.0, 0.3])
    table = Codebook(4, 32, normalize=normalize)
    table.fit(x, generator=seeded(1))
    x = table.normalized(x)
    assert len(table.nearest(x).unique()) == 32
    error = (x - table.lookup(table.nearest(x))).square().sum(dim=-1).mean()
    random = codebook(x[:32])
    assert error < 0.8 * (x - random.lookup(random.nearest(x))).square().sum(dim=-1).mean()
    # Lloyd's fixed point: each code is the mean of its cluster
    means = torch.stack([x[table.nearest(x) == code].mean(dim=0) for code in range(32)])
    means = F.normalize(means, dim=-1) if normalize else means
    assert (means - table.vectors).norm(dim=-1).mean() < 0.05


def test_fit_finds_clusters_far_apart() -> None:
    centres = clusters(8)
    x = centres.repeat(20, 1) + 0.1 * torch.randn(160, 3, generator=seeded())
    table = Codebook(3, 24)
    table.fit(x, generator=seeded(1))
    assert torch.cdist(centres, table.vectors).min(dim=1).values.max() < 0.5


def test_fit_of_fewer_vectors_than_codes() -> None:
    table = Codebook(3, 16)
    table.fit(clusters(8), generator=seeded())
    assert torch.equal(table.lookup(table.nearest(clusters(8))), clusters(8))


def test_fit_leaves_statistics_that_agree_with_the_codes() -> None:
    table = Codebook(3, 8, revive_below=0.0)
    table.fit(torch.randn(100, 3, generator=seeded()), generator=seeded())
    before = table.vectors.clone()
    table.learn(table.vectors.clone(), torch.arange(8), generator=None)
    torch.testing.assert_close(table.vectors, before)


def test_fit_of_silence_alone_is_refused_where_codes_need_directions() -> None:
    with pytest.raises(ValueError, match="all vectors to start from are zero"):
        Codebook(3, 8, normalize=True).fit(torch.zeros(10, 3), generator=seeded())
