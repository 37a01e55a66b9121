"""The measures of others against their own packages' values, and a reason wherever they have none."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from vqaudio.dsp import resample
from vqaudio.evaluation.external import external_measures, visqol_speech_fallback
from vqaudio.evaluation.listeners import (
    edit_distance,
    load_callable,
    speaker_similarity,
    word_error_rate,
    words,
)
from vqaudio.evaluation.measures import Measure, NotMeasuredError

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000
# Where every measure falls: from 10 dB down the lattice network of ViSQOL does not, nor does DNSMOS SIG above 25 dB.
SNRS_DB = (25, 15, 10)
MEASURES = {measure.values[0].name: measure for measure in external_measures()}
NAMES = [value.name for measure in MEASURES.values() for value in measure.values]

# What the packages' own functions (pesq.pesq, pystoi.stoi, visqol.VisqolApi, speechmos.dnsmos.run; versions as in
# constraints.txt) say of `pair(15)`, and of a signal compared to itself: the best value there is, but for ViSQOL's
# lattice network, which says more of noise at -60 dB. DNSMOS compares nothing.
EXPECTED = {
    "pesq_wb": (2.05317, 4.64389),
    "pesq_nb": (2.97685, 4.54864),
    "stoi": (0.92656, 1.0),
    "estoi": (0.79249, 1.0),
    "visqol_speech": (1.27483, 4.27957),
    "visqol_audio": (3.37985, 4.73210),
    "dnsmos_ovrl": (2.25357, None),
    "dnsmos_sig": (3.45388, None),
    "dnsmos_bak": (2.17084, None),
    "dnsmos_p808": (2.53443, None),
}


def pair(snr_db: int | None, *, sample_rate: int = RATE) -> tuple[np.ndarray, np.ndarray]:
    """(estimate, reference), 4.8 s of speech each: the first with white noise `snr_db` below it, None: without."""
    samples, _ = soundfile.read(ROOT / "samples" / "english-2.flac", dtype="float32")
    reference = torch.from_numpy(samples)[None, : 48 * RATE // 10]
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(0)) * reference.std()
    estimate = reference if snr_db is None else (reference + noise * 10 ** (-snr_db / 20)).clamp(-1, 1)
    return resample(estimate, RATE, sample_rate)[0].numpy(), resample(reference, RATE, sample_rate)[0].numpy()


def score(measure: Measure, snr_db: int | None) -> dict[str, float]:
    rate = measure.sample_rate or RATE
    return dict(measure.compute(*pair(snr_db, sample_rate=rate), rate))


@pytest.fixture(scope="module")
def scores() -> dict[int | None, dict[str, float]]:
    """SNR in dB -> every value by its name; None: of equal signals, without DNSMOS, which takes most of the time."""
    compared = [measure for name, measure in MEASURES.items() if EXPECTED[name][1] is not None]
    return {
        snr: {
            name: value
            for measure in (compared if snr is None else MEASURES.values())
            for name, value in score(measure, snr).items()
        }
        for snr in (None, *SNRS_DB)
    }


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_the_packages(scores: dict[int | None, dict[str, float]], name: str) -> None:
    noisy, equal = EXPECTED[name]
    assert scores[15][name] == pytest.approx(noisy, abs=2e-3)  # the last digits differ from processor to processor
    if equal is not None:
        assert scores[None][name] == pytest.approx(equal, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_more_noise_scores_lower(scores: dict[int | None, dict[str, float]], name: str) -> None:
    falling = [scores[snr][name] for snr in (None, *SNRS_DB) if name in scores[snr]]
    assert len(falling) >= 3
    assert falling == sorted(set(falling), reverse=True)


def test_numba_that_starts_leaves_the_number_of_threads_alone() -> None:
    """Its layer takes all threads, torch's too, when it is first asked for anything: once in a process."""
    code = (
        "import torch; torch.set_num_threads(1); torch.get_num_threads()\n"
        "from vqaudio.evaluation.external import _one_numba_thread\n"
        "with _one_numba_thread(): pass\n"
        "assert torch.get_num_threads() == 1, torch.get_num_threads()"
    )
    unlimited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**unlimited, "NUMBA_NUM_THREADS": "2"})


@pytest.mark.parametrize("threads", [1, 2])
def test_visqol_leaves_the_number_of_threads_alone(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        score(measures_now()["visqol_speech"], 15)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_visqol_says_which_mapper_it_has_and_they_differ(
    monkeypatch: pytest.MonkeyPatch, scores: dict[int | None, dict[str, float]]
) -> None:
    assert "lattice" in MEASURES["visqol_speech"].values[0].note
    hide(monkeypatch, "ai_edge_litert")
    measure = measures_now()["visqol_speech"]
    assert measure.missing is None
    assert "exponential" in measure.values[0].note
    assert measure.compute is visqol_speech_fallback
    assert measure.versions is not None and "ai-edge-litert" not in measure.versions
    assert score(measure, 15)["visqol_speech"] == pytest.approx(3.94374, abs=2e-3)  # 2.7 above the lattice's


def measures_now() -> dict[str, Measure]:
    return {measure.values[0].name: measure for measure in external_measures()}


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    original = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in hidden else original(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.parametrize(
    ("module", "package", "names"),
    [
        ("pesq", "pesq", {"pesq_wb", "pesq_nb"}),
        ("pystoi", "pystoi", {"stoi", "estoi"}),
        ("visqol", "visqol-python", {"visqol_speech", "visqol_audio"}),
        ("libsvm", "libsvm-official", {"visqol_audio"}),
        ("speechmos", "speechmos", {"dnsmos_ovrl"}),
        ("onnxruntime", "onnxruntime", {"dnsmos_ovrl"}),
    ],
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, names: set[str]
) -> None:
    assert all(measure.missing is None for measure in MEASURES.values())
    hide(monkeypatch, module)
    missing = {name: measure.missing for name, measure in measures_now().items() if measure.missing}
    assert missing.keys() == names
    for sentence in missing.values():
        assert sentence.startswith(f"{package}, which ") and sentence.endswith(": pip install 'vqaudio[eval]'")


def test_a_package_that_does_not_load_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(NotMeasuredError, match=r"pystoi could not be loaded .*vqaudio\[eval\]"):
        score(MEASURES["stoi"], 15)


SIGNAL = pair(15)[0]
CLICK = np.where(np.arange(len(SIGNAL)) == 20_000, 0.5, 0.0).astype(np.float32)
SILENCE = np.zeros_like(SIGNAL)


@pytest.mark.parametrize(
    ("name", "estimate", "reference", "reason"),
    [
        ("pesq_wb", SIGNAL[:3999], SIGNAL[:3999], "1/4 of a second"),
        ("pesq_wb", np.tile(SIGNAL, 9), np.tile(SIGNAL, 9), "43.2 s are too long for PESQ.* 40 s"),
        ("pesq_wb", SILENCE, SIGNAL, "the output is silent"),
        ("pesq_wb", SIGNAL, SILENCE, "the reference is silent"),
        ("stoi", SIGNAL[:100], SIGNAL[:100], "too little speech for STOI"),
        ("stoi", SIGNAL[:4000], SIGNAL[:4000], "too little speech for STOI"),
        ("estoi", SIGNAL, CLICK, "too little speech for STOI"),
        ("estoi", SILENCE, SIGNAL, "the output is silent"),
        ("visqol_speech", SIGNAL[:1000], SIGNAL[:1000], "too few for a spectrogram"),
        ("visqol_speech", SIGNAL[:8000], SIGNAL[:8000], "no speech in the reference, or less than"),
        ("visqol_speech", SIGNAL * np.float32(np.nan), SIGNAL, "the output has samples that are not finite"),
        ("visqol_audio", SIGNAL, SIGNAL, "smaller than minimum patch size"),  # a third of its length at 48 kHz
        ("visqol_audio", SILENCE, SIGNAL, "the output is silent"),
        ("dnsmos_ovrl", SIGNAL * 2, SIGNAL, r"goes up to 1\.2\d+, and DNSMOS"),
        ("dnsmos_ovrl", SILENCE, SIGNAL, "the output is silent"),
        ("dnsmos_ovrl", SIGNAL * np.float32(np.nan), SIGNAL, "not finite"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(
    name: str, estimate: np.ndarray, reference: np.ndarray, reason: str
) -> None:
    measure = MEASURES[name]
    if name == "visqol_audio":
        estimate, reference = estimate[: RATE * 2], reference[: RATE * 2]
    with pytest.raises(NotMeasuredError, match=reason):
        measure.compute(estimate, reference, measure.sample_rate or RATE)


def test_a_reason_of_pesq_is_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises bytes."""
    import pesq

    def without_utterances(*_: object) -> float:
        raise pesq.NoUtterancesError(b"No utterances detected")

    monkeypatch.setattr(pesq, "pesq", without_utterances)
    with pytest.raises(NotMeasuredError, match=r"^PESQ: no utterances detected$"):
        MEASURES["pesq_wb"].compute(SIGNAL, SIGNAL, RATE)


def test_measures_travel_to_other_processes() -> None:
    own = (word_error_rate("json:dumps"), speaker_similarity("json:dumps"))
    for measure in (*MEASURES.values(), *own):
        assert pickle.loads(pickle.dumps(measure)) == measure or measure in own  # partials are not equal
    assert score(pickle.loads(pickle.dumps(MEASURES["pesq_nb"])), 15)["pesq_nb"] == pytest.approx(2.97685, abs=2e-3)


def test_asking_for_the_measures_imports_no_package() -> None:
    script = "import json, sys; from vqaudio.evaluation.external import external_measures as e; e()"
    script += "; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"pesq", "pystoi", "visqol", "speechmos", "onnxruntime", "ai_edge_litert", "librosa", "numba", "libsvm"}
    assert heavy & set(json.loads(done.stdout)) == set()


@pytest.mark.parametrize(("rate", "num_bands", "speech"), [(RATE, 21, True), (48_000, 32, False)])
def test_the_quick_gammatone_bank_is_visqols(rate: int, num_bands: int, speech: bool) -> None:
    """Against the library's slow path, which filters band by band with scipy."""
    from visqol import gammatone
    from visqol.analysis_window import AnalysisWindow
    from visqol.audio_utils import AudioSignal

    from vqaudio.evaluation.visqol_kernels import QuickSpectrogramBuilder

    signal = AudioSignal(np.random.default_rng(0).normal(size=rate // 5), rate)
    window = AnalysisWindow(rate, 0.25)
    quick = QuickSpectrogramBuilder(num_bands, 50.0, speech).build(signal, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gammatone, "has_numba", lambda: False)
        slow = gammatone.GammatoneSpectrogramBuilder(num_bands, 50.0, speech).build(signal, window)
    np.testing.assert_allclose(quick.data, slow.data, rtol=1e-9)
    np.testing.assert_array_equal(quick.center_freq_bands, slow.center_freq_bands)


def test_the_quick_voice_activity_detector_is_visqols() -> None:
    from visqol.audio_utils import AudioSignal
    from visqol.patch_creator import VadPatchCreator

    from vqaudio.evaluation.visqol_kernels import QuickVadPatchCreator

    loudness = np.repeat([0.0, 0.2, 1.0, 0.05], 8000)  # RMS on both sides of the threshold, peaks beyond full scale
    signal = AudioSignal(0.5 * np.random.default_rng(0).normal(size=32_000) * loudness, RATE)
    results = [
        creator(20)._get_voice_activity(signal, 9, 31_000, 320) for creator in (QuickVadPatchCreator, VadPatchCreator)
    ]
    assert results[0] == results[1]
    assert 0.0 in results[0] and 1.0 in results[0]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),  # replaced
        ("a b c", "a c", 1),  # deleted
        ("a c", "a b c", 1),  # inserted
        ("k i t t e n", "s i t t i n g", 3),
        ("a b c d", "b c d a", 2),  # not four replacements
    ],
)
def test_edit_distance_by_hand(one: str, other: str, distance: int) -> None:
    assert edit_distance(one.split(), other.split()) == distance


def test_words_are_what_is_said_and_not_how_it_is_written() -> None:
    assert words("Don’t -- STOP, 'now'!\nAt 5 o'clock…") == ["don't", "stop", "now", "at", "5", "o'clock"]
    assert words("Été 你 好。") == ["été", "你", "好"]
    assert words(" - ") == []


class Recogniser:
    """Hears `reference` in the first signal and `estimate` in the others, and counts."""

    def __init__(self, reference: Any, estimate: Any) -> None:
        self.answers, self.calls = [reference, estimate], 0

    def __call__(self, audio: np.ndarray, sample_rate: int) -> Any:
        assert audio.dtype == np.float32 and audio.ndim == 1 and sample_rate == RATE
        self.calls += 1
        return self.answers[min(self.calls, 2) - 1]


def test_word_error_rate_is_in_per_cent_of_the_words_of_the_reference() -> None:
    recogniser = Recogniser("The cat sat on the mat.", "the cat sat on a big mat")
    measure = word_error_rate(recogniser)
    assert measure.compute(SIGNAL, CLICK, RATE) == {"word_error_rate": pytest.approx(100 * 2 / 6)}
    measure.compute(SIGNAL / 2, CLICK, RATE)
    assert recogniser.calls == 3, "the reference is to be heard once for all points"


def test_speaker_similarity_is_the_cosine() -> None:
    measure = speaker_similarity(Recogniser(torch.tensor([[3.0, 4.0]]), [4.0, 3.0]))
    assert measure.compute(SIGNAL, CLICK, RATE) == {"speaker_similarity": pytest.approx(24 / 25)}


@pytest.mark.parametrize(
    ("make", "reference", "estimate", "reason"),
    [
        (word_error_rate, "…", "a word", "Recogniser hears no word in the reference"),
        (word_error_rate, "a", None, "Recogniser gave NoneType, and a str was expected"),
        (speaker_similarity, [1.0, 2.0], [1.0], "vectors of 2 and 1 numbers"),
        (speaker_similarity, [0.0, 0.0], [1.0, 0.0], "a vector of zeros"),
        (speaker_similarity, [1.0, np.nan], [1.0, 0.0], "came out as nan"),
        (speaker_similarity, ["a"], [1.0], "no vector of numbers"),
    ],
)
def test_what_a_users_model_says_that_is_no_answer(
    make: Callable[..., Measure], reference: Any, estimate: Any, reason: str
) -> None:
    with pytest.raises(NotMeasuredError, match=reason):
        make(Recogniser(reference, estimate)).compute(SIGNAL, CLICK, RATE)


ASR = """
from dataclasses import dataclass
from helper import ANSWER

@dataclass
class Settings:
    answer: str = ANSWER

def transcribe(audio, sample_rate):
    return Settings().answer

def fails(audio, sample_rate):
    raise RuntimeError("no model")

number = 3
"""


@pytest.fixture
def asr(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("ANSWER = 'one two'")
    (tmp_path / "my_asr.py").write_text(ASR)
    return tmp_path / "my_asr.py"


def test_a_function_in_a_file_is_found_and_used_in_another_process(asr: Path) -> None:
    path = list(sys.path)
    assert load_callable(f"{asr}:transcribe")(None, 0) == "one two"
    assert sys.path == path
    assert load_callable("os.path:basename")("a/b") == "b"
    measure = pickle.loads(pickle.dumps(word_error_rate(f"{asr}:transcribe")))
    assert measure.compute(SIGNAL, CLICK, RATE) == {"word_error_rate": 0.0}
    with pytest.raises(NotMeasuredError, match=r"my_asr.py:fails failed: RuntimeError: no model"):
        word_error_rate(f"{asr}:fails").compute(SIGNAL, CLICK, RATE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_asr.py", "write package.module:function or path/to/file.py:function"),
        ("my_asr.py:", "write package.module:function"),
        ("json:dumps()", "write package.module:function"),
        ("no_such_file.py:transcribe", "there is no file no_such_file.py, seen from "),
        ("no_such_package.asr:transcribe", "no module 'no_such_package.asr' is installed; for a file, write "),
        ("json:no_such_function", "json has no 'no_such_function'"),
        ("json:__name__", "__name__ in json is str and not a function"),
    ],
)
def test_what_is_wrong_with_the_place_of_a_function(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_callable(text)
    assert repr(text) in str(caught.value)


def test_a_slip_is_told_when_the_measure_is_made() -> None:
    with pytest.raises(ValueError, match="there is no file"):
        word_error_rate("no_such_file.py:transcribe")
    with pytest.raises(ValueError, match="is no function and does not say where one is"):
        speaker_similarity(3)  # type: ignore[arg-type]
