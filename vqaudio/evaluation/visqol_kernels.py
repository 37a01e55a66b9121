"""ViSQOL's two slow loops, written to be quick: the same numbers to the last bit, in a quarter of the time.

visqol-python spends most of its time in a bank of gammatone filters, which it runs band after band; here 32 bands go
side by side, which a compiler turns into vector instructions. Its voice activity detector converts samples to integers
one by one in Python; here they are converted at once. To be imported only where visqol-python is installed.
"""

import numpy as np
from numba import njit
from visqol.analysis_window import AnalysisWindow
from visqol.audio_utils import AudioSignal
from visqol.gammatone import GammatoneSpectrogramBuilder, Spectrogram, make_erb_filters
from visqol.patch_creator import RmsVad, VadPatchCreator
from visqol.visqol_manager import VisqolManager

SPEECH_MAX_HZ = 8000.0
# All bands of ViSQOL, 21 or 32, in one row. A literal in the kernel: with a length that is not known when it is
# compiled, or of 8, LLVM does not vectorise the loop.
NUM_LANES = 32


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _band_levels(
    signal: np.ndarray, window: np.ndarray, coefficients: np.ndarray, hop: int, levels: np.ndarray
) -> None:
    """RMS of each band in each frame, into `levels` (N, 32): four biquads in a row, in transposed direct form II.

    Every frame (T,) begins at rest. `coefficients` (8 · 32,): rows of 32 bands - first gain, first zero, gain, second
    to fourth zero, and the two poles, which all stages share. All float64, in visqol-python's order of operations.
    """
    state = np.zeros(9 * 32)  # two of each stage, then the energy
    frame = np.empty(len(window))
    for index in range(levels.shape[0]):
        for time in range(len(window)):
            frame[time] = signal[index * hop + time] * window[time]
        state[:] = 0.0
        for time in range(len(window)):
            x = frame[time]
            for band in range(32):
                gain = coefficients[64 + band]
                a1 = coefficients[192 + band]
                a2 = coefficients[224 + band]
                y0 = coefficients[band] * x + state[band]
                state[band] = coefficients[32 + band] * x - a1 * y0 + state[32 + band]
                state[32 + band] = -(a2 * y0)
                y1 = gain * y0 + state[64 + band]
                state[64 + band] = coefficients[96 + band] * y0 - a1 * y1 + state[96 + band]
                state[96 + band] = -(a2 * y1)
                y2 = gain * y1 + state[128 + band]
                state[128 + band] = coefficients[128 + band] * y1 - a1 * y2 + state[160 + band]
                state[160 + band] = -(a2 * y2)
                y3 = gain * y2 + state[192 + band]
                state[192 + band] = coefficients[160 + band] * y2 - a1 * y3 + state[224 + band]
                state[224 + band] = -(a2 * y3)
                state[256 + band] += y3 * y3
        for band in range(32):
            levels[index, band] = np.sqrt(state[256 + band] / len(window))


class QuickSpectrogramBuilder(GammatoneSpectrogramBuilder):
    """visqol-python's spectrogram (bands, N) of a signal."""

    def build(self, signal: AudioSignal, window: AnalysisWindow) -> Spectrogram:
        num_bands, hop = self.filter_bank.num_bands, int(window.size * window.overlap)
        if len(signal.data) <= window.size:
            raise ValueError(f"{len(signal.data)} samples are too few for a spectrogram with {window.size} in a frame")
        max_hz = SPEECH_MAX_HZ if self.speech_mode else signal.sample_rate / 2
        filters = make_erb_filters(signal.sample_rate, num_bands, self.filter_bank.min_freq, max_hz)
        gain, zero1, zero2, zero3, zero4, _, _, pole1, pole2, norm = filters.filter_coeffs[:, ::-1]
        rows = np.array([gain / norm, zero1 / norm, gain, zero2, zero3, zero4, pole1, pole2])
        coefficients = np.pad(rows, ((0, 0), (0, NUM_LANES - num_bands))).ravel()
        levels = np.empty((1 + (len(signal.data) - window.size) // hop, NUM_LANES))
        _band_levels(np.ascontiguousarray(signal.data), window.hann_window, coefficients, hop, levels)
        return Spectrogram(levels[:, :num_bands].T.copy(), filters.center_freqs[::-1].copy())


class QuickVadPatchCreator(VadPatchCreator):
    """visqol-python's choice of the stretches (patches) of speech that are compared."""

    def _get_voice_activity(
        self, signal: AudioSignal, start_sample: int, total_samples: int, frame_len: int
    ) -> list[float]:
        detector = RmsVad()
        samples = signal.data[start_sample : start_sample + total_samples] * 32768
        samples = np.trunc(samples.clip(-32768, 32767)).astype(np.int16)
        for frame in samples[: len(samples) // frame_len * frame_len].reshape(-1, frame_len):
            detector.process_chunk(frame)
        return detector.get_vad_results()


def quicken(manager: VisqolManager) -> None:
    """Put both in the place of visqol-python's own, in a manager that `init` has been called on."""
    builder, creator = manager.spect_builder, manager.patch_creator
    assert builder is not None and creator is not None
    bank = builder.filter_bank
    manager.spect_builder = QuickSpectrogramBuilder(bank.num_bands, bank.min_freq, builder.speech_mode)
    if isinstance(creator, VadPatchCreator):
        manager.patch_creator = QuickVadPatchCreator(creator.patch_size)
