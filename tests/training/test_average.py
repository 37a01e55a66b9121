"""The average of the weights, and codebooks that are not averaged twice."""

from dataclasses import replace

import torch

from vqaudio.quantize import VQConfig
from vqaudio.training.average import Average
from vqaudio.training.recipe import Recipe


def test_weights_are_averaged_and_codebooks_are_those_of_the_last_step(recipe: Recipe) -> None:
    codec = recipe.codec.build()
    average = Average(codec, decay=0.5)
    before = {name: value.clone() for name, value in codec.named_parameters()}
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(1.0)
        for name, buffer in codec.named_buffers():
            if name.endswith(("vectors", "ema_counts", "ema_sums")):
                buffer[3] = 7.0  # a code that was revived far away
    average.update(codec, step=1000)
    for name, value in average.codec.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.5)
    vectors = {name for name, _ in average.codec.named_buffers() if name.endswith("vectors")}
    assert len(vectors) == 3
    for name, value in average.codec.named_buffers():
        assert torch.equal(value, codec.get_buffer(name)), name


def test_no_decay_is_no_average(recipe: Recipe) -> None:
    codec = recipe.codec.build()
    average = Average(codec, decay=0.0)
    with torch.no_grad():
        next(codec.parameters()).add_(1.0)
    average.update(codec, step=1)
    torch.testing.assert_close(average.codec.state_dict(), codec.state_dict())


def test_codes_that_learn_by_gradient_are_those_of_the_last_step_too(recipe: Recipe) -> None:
    codec = replace(
        recipe.codec, quantizer=VQConfig(dim=recipe.codec.quantizer.dim, codebook_size=8, update="gradient")
    ).build()
    average = Average(codec, decay=0.999)
    vectors = codec.get_parameter("quantizer.table.vectors")
    with torch.no_grad():
        vectors[3] = 7.0
    average.update(codec, step=1000)
    assert torch.equal(average.codec.get_parameter("quantizer.table.vectors"), vectors)
    assert not average.codec.get_parameter("quantizer.table.vectors").requires_grad
