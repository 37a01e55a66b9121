"""How far an estimate is from its reference, without libraries of others (PESQ, STOI: `vqaudio.evaluation`)."""

from vqaudio.metrics.distances import (
    edge_error_ratio as edge_error_ratio,
    log_spectral_distance as log_spectral_distance,
    mel_distance as mel_distance,
    si_sdr as si_sdr,
    stft_distance as stft_distance,
)
from vqaudio.metrics.pitch import (
    PitchTrack as PitchTrack,
    f0_correlation as f0_correlation,
    pitch_track as pitch_track,
    voicing_f1 as voicing_f1,
)
