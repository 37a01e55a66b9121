"""What all tests share: one torch thread, deterministic property tests, the sample recordings."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import soundfile
import torch
from torch import Tensor

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def pytest_configure(config: pytest.Config) -> None:
    # Two threads on small tensors are many times slower than one as soon as the machine has other work.
    torch.set_num_threads(1)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a job of a script; tests interrupt what they start
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile(
        "vqaudio",
        derandomize=True,  # a red test stays red; for a wider search: --hypothesis-profile=default
        database=None,
        deadline=None,
        max_examples=25,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],  # measures the machine, not the test
        print_blob=True,
    )
    hypothesis.settings.load_profile("vqaudio")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A test that leaves torch at another number of threads changes the bits of those after it."""
    yield
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert threads == 1, f"the test has left torch at {threads} threads"


@pytest.fixture
def samples_folder() -> Path:
    """The folder of real recordings that ships with the source; its README.md lists them."""
    return SAMPLES


@pytest.fixture
def speech_clip() -> tuple[Tensor, int]:
    """5.4 seconds of read English, one speaker: audio (1, T) float32 and its sample rate, 16,000 Hz."""
    samples, sample_rate = soundfile.read(SAMPLES / "english-2.flac", dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), sample_rate
