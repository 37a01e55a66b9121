"""The measures of the field, by the packages that have them.

    measure         what it is                                                      signals at   package
    pesq_wb         ITU-T P.862.2, wideband, MOS-LQO 1.04 to 4.64                   16 kHz       pesq
    pesq_nb         ITU-T P.862.1, narrowband, MOS-LQO 1.02 to 4.55                 8 kHz        pesq
    stoi            intelligibility, Taal et al. 2011, up to 1                      any rate     pystoi
    estoi           extended, Jensen and Taal 2016, up to 1                         any rate     pystoi
    visqol_speech   ViSQOL v3 (Chinen et al., arXiv 2004.09584), MOS-LQO 1 to 5     16 kHz       visqol-python
    visqol_audio    the same for music and all other sound, MOS-LQO 1 to 4.73       48 kHz       visqol-python
    dnsmos_*        DNSMOS P.835 (Reddy et al., arXiv 2110.01763): overall, speech  16 kHz       speechmos
                    and background, and P.808 (arXiv 2010.15258); of the estimate

pystoi resamples to its 10 kHz itself, and gets the pair at the rate it comes in: so were the published numbers made.
What the packages round, warn of or raise for signals they have no value for becomes NotMeasuredError, never a number.
Nothing of them is imported before the first pair; a process makes each model once, for one thread.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqaudio.evaluation.measures import Measure, NotMeasuredError, Value

INSTALL = "pip install 'vqaudio[eval]'"
# The program of P.862 has room for 50 utterances and does not check: beyond, it writes over its own memory, and gives
# wrong values, never returns or ends the process. Speech seldom has more than one in 0.8 s, with its pause.
PESQ_MAX_SECONDS = 40.0
# Its top is not where signals are equal: 4.8 s of speech have 4.28 compared to themselves, 4.51 with noise at -60 dB,
# and from 1.3 down more noise can score higher. So its authors trained it; the value is given as it comes.
LATTICE_NOTE = "by ViSQOL's deep lattice network, its C++ program's default; equal signals have only about 4.3"
FALLBACK_NOTE = "by ViSQOL's exponential fit, which can lie 1 to 2 points above its default, the lattice network"


def external_measures() -> tuple[Measure, ...]:
    """All of the table above, also what is not installed: `missing` says so."""
    lattice = _is_installed("ai_edge_litert")
    speech_note = LATTICE_NOTE if lattice else FALLBACK_NOTE
    pesq, pystoi = {"pesq": ("pesq", "PESQ")}, {"pystoi": ("pystoi", "STOI")}
    visqol = {"visqol": ("visqol-python", "ViSQOL"), "numba": ("numba", "ViSQOL")}
    visqol_speech = visqol | ({"ai_edge_litert": ("ai-edge-litert", "ViSQOL")} if lattice else {})
    visqol_audio = visqol | {"libsvm": ("libsvm-official", "ViSQOL")}
    dnsmos = {name: (name, "DNSMOS") for name in ("speechmos", "onnxruntime", "librosa")}
    without_reference = "of the output alone: the reference is not heard"
    return (
        Measure(
            values=(higher("pesq_wb", "PESQ-WB", 2),),
            kinds=("speech",),
            sample_rate=16_000,
            compute=pesq_wb,
            missing=_missing(pesq),
            versions=_versions(pesq),
        ),
        Measure(
            values=(higher("pesq_nb", "PESQ-NB", 2),),
            kinds=("speech",),
            sample_rate=8_000,
            compute=pesq_nb,
            missing=_missing(pesq),
            versions=_versions(pesq),
        ),
        Measure(
            values=(higher("stoi", "STOI", 3),),
            kinds=("speech",),
            sample_rate=None,
            compute=stoi,
            missing=_missing(pystoi),
            versions=_versions(pystoi),
        ),
        Measure(
            values=(higher("estoi", "ESTOI", 3),),
            kinds=("speech",),
            sample_rate=None,
            compute=estoi,
            missing=_missing(pystoi),
            versions=_versions(pystoi),
        ),
        Measure(
            values=(higher("visqol_speech", "ViSQOL", 2, speech_note),),
            kinds=("speech",),
            sample_rate=16_000,
            compute=visqol_speech_lattice if lattice else visqol_speech_fallback,
            missing=_missing(visqol_speech),
            versions=_versions(visqol_speech) | {"visqol mapper": "lattice" if lattice else "exponential"},
        ),
        Measure(
            # Not for speech: ViSQOL has a mode for that, which takes a third of the time and is not given 48 kHz.
            values=(higher("visqol_audio", "ViSQOL audio", 2, "by ViSQOL's support vector regression"),),
            kinds=("music",),
            sample_rate=48_000,
            compute=visqol_audio_svr,
            missing=_missing(visqol_audio),
            versions=_versions(visqol_audio),
        ),
        Measure(
            values=(
                higher("dnsmos_ovrl", "DNSMOS OVRL", 2, without_reference),
                higher("dnsmos_sig", "DNSMOS SIG", 2, without_reference),
                higher("dnsmos_bak", "DNSMOS BAK", 2, without_reference),
                higher("dnsmos_p808", "DNSMOS P.808", 2, without_reference),
            ),
            kinds=("speech",),
            sample_rate=16_000,
            compute=dnsmos_of_estimate,
            missing=_missing(dnsmos),
            versions=_versions(dnsmos) | _dnsmos_weights(),
        ),
    )


def higher(name: str, label: str, decimals: int, note: str = "") -> Value:
    return Value(name=name, label=label, better="higher", decimals=decimals, note=note)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _missing(needed: Mapping[str, tuple[str, str]]) -> str | None:
    """`needed`: module -> (package, what needs it)."""
    absent = [(package, user) for module, (package, user) in needed.items() if not _is_installed(module)]
    if not absent:
        return None
    packages = " and ".join(package for package, _ in absent)
    are = "are" if len(absent) > 1 else "is"
    return f"{packages}, which {absent[0][1]} needs, {are} not installed: {INSTALL}"


def _versions(needed: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Of the packages that are there."""
    found = {}
    for package, _ in needed.values():
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _dnsmos_weights() -> dict[str, str]:
    """The first 12 digits of the SHA-256 of both networks' files; empty if they are not there."""
    spec = importlib.util.find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(spec.submodule_search_locations[0]) / "dnsmos_models"
    files = [folder / name for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    return {f"DNSMOS {f.name}": hashlib.sha256(f.read_bytes()).hexdigest()[:12] for f in files if f.is_file()}


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """A package that is there and does not load is a reason like any other, not the end of an evaluation."""
    try:
        yield
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise NotMeasuredError(f"{name} could not be loaded ({error}); to install it anew: {INSTALL}") from error


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """As plain floats."""
    for name, value in values.items():
        if not np.isfinite(value):
            raise NotMeasuredError(f"{name} came out as {float(value)}")
    return {name: float(value) for name, value in values.items()}


def _check_audible(estimate: np.ndarray, reference: np.ndarray) -> None:
    """What no measure of a pair has a value for, and some give one for all the same."""
    for name, signal in (("output", estimate), ("reference", reference)):
        if not np.isfinite(signal).all():
            raise NotMeasuredError(f"the {name} has samples that are not finite")
        if not signal.any():
            raise NotMeasuredError(f"the {name} is silent")


def pesq_wb(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """PESQ-WB of (T,) and (T,) at 16 kHz; NotMeasuredError below 0.25 s, above 40 s and where no utterance is found."""
    return _pesq("pesq_wb", "wb", estimate, reference, sample_rate)


def pesq_nb(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """PESQ-NB of (T,) and (T,) at 8 kHz; NotMeasuredError as `pesq_wb`."""
    return _pesq("pesq_nb", "nb", estimate, reference, sample_rate)


def _pesq(name: str, mode: str, estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    _check_audible(estimate, reference)
    if len(reference) > PESQ_MAX_SECONDS * sample_rate:
        seconds = len(reference) / sample_rate
        raise NotMeasuredError(
            f"{seconds:.1f} s are too long for PESQ, which is only safe up to {PESQ_MAX_SECONDS:.0f} s; cut the file"
        )
    with _loading("pesq"):
        from pesq import pesq
    try:
        score = pesq(sample_rate, reference, estimate, mode)
    except (RuntimeError, ValueError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        words = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise NotMeasuredError(f"PESQ: {words[:1].lower()}{words[1:]}") from error
    return finite({name: score})


def stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """STOI of (T,) and (T,); NotMeasuredError for less than 0.4 s (30 frames) within 40 dB of the loudest frame."""
    return _stoi("stoi", False, estimate, reference, sample_rate)


def estoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """ESTOI of (T,) and (T,); NotMeasuredError as `stoi`. pystoi adds noise to it, which moves it by 1e-15."""
    return _stoi("estoi", True, estimate, reference, sample_rate)


def _stoi(name: str, extended: bool, estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    _check_audible(estimate, reference)
    with _loading("pystoi"):
        import pystoi
    too_little = NotMeasuredError("too little speech for STOI, which needs 30 frames (0.4 s) that are not silent")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            score = pystoi.stoi(reference.astype(np.float64), estimate.astype(np.float64), sample_rate, extended)
        except (ValueError, IndexError) as error:  # shorter than a single frame
            raise too_little from error
    if any("Not enough STFT frames" in str(warning.message) for warning in warned):
        raise too_little
    return finite({name: score})


def visqol_speech_lattice(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """ViSQOL's speech mode of (T,) and (T,) at 16 kHz; NotMeasuredError for less than about 0.7 s."""
    return _visqol("visqol_speech", "lattice", estimate, reference, sample_rate)


def visqol_speech_fallback(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """The same with the exponential fit, where the lattice network cannot run."""
    return _visqol("visqol_speech", "exponential", estimate, reference, sample_rate)


def visqol_audio_svr(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """ViSQOL's audio mode of (T,) and (T,) at 48 kHz; NotMeasuredError for less than about 1 s."""
    return _visqol("visqol_audio", "svr", estimate, reference, sample_rate)


def _visqol(name: str, mapper: str, estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    _check_audible(estimate, reference)
    with _loading("visqol-python"):
        from visqol.audio_utils import AudioSignal
    with _one_numba_thread():  # also while the manager is made, which runs numba's functions
        manager = _visqol_manager(mapper)
        try:
            result = manager.run_from_signals(AudioSignal(reference, sample_rate), AudioSignal(estimate, sample_rate))
        except IndexError as error:  # there is no first of no patches
            raise NotMeasuredError("ViSQOL finds no speech in the reference, or less than 0.7 s") from error
        except ValueError as error:
            raise NotMeasuredError(f"ViSQOL: {str(error)[:1].lower()}{str(error)[1:]}") from error
    return finite({name: result.moslqo})


@contextmanager
def _one_numba_thread() -> Iterator[None]:
    """Numba at one thread, and torch, whose number numba's OpenMP layer overwrites with its own, as it was."""
    import numba

    torch_threads = torch.get_num_threads()  # before numba is asked for its own, which starts its layer
    numba_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(numba_threads)
        torch.set_num_threads(torch_threads)


@lru_cache(maxsize=3)
def _visqol_manager(mapper: str) -> Any:
    """One of each kind per process."""
    with _loading("visqol-python"):
        from visqol.api import _DEFAULT_SVR_MODEL
        from visqol.visqol_manager import VisqolManager

        from vqaudio.evaluation.visqol_kernels import quicken

        manager = VisqolManager()
        if mapper == "svr":
            manager.init(model_path=_DEFAULT_SVR_MODEL)
        else:
            manager.init(use_speech_mode=True, use_lattice_model=mapper == "lattice")
        quicken(manager)
    return manager


def dnsmos_of_estimate(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    """The four values of `estimate` (T,) at 16 kHz, the means over windows of 9 s a second apart.

    What is shorter than 9 s is repeated until it is not. `reference` is not looked at. NotMeasuredError for samples
    outside [-1, 1], which the networks were not made for.
    """
    peak = np.abs(estimate).max(initial=0.0)
    if not peak > 0.0:
        raise NotMeasuredError("the output is silent" if peak == 0.0 else "the output has samples that are not finite")
    if not peak <= 1.0:
        raise NotMeasuredError(f"the output goes up to {peak:.3f}, and DNSMOS takes samples within -1 to 1 only")
    scores = _dnsmos()(estimate, sample_rate, False)
    return finite(
        {
            "dnsmos_ovrl": scores["ovrl_mos"],
            "dnsmos_sig": scores["sig_mos"],
            "dnsmos_bak": scores["bak_mos"],
            "dnsmos_p808": scores["p808_mos"],
        }
    )


@lru_cache(maxsize=1)
def _dnsmos() -> Any:
    """speechmos' object with sessions of one thread: its own take all cores, and one per process is then slowest."""
    with _loading("speechmos"):
        import onnxruntime
        from speechmos import dnsmos

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        model = dnsmos.DNSMOS.__new__(dnsmos.DNSMOS)
        model.primary_model_path = str(folder / "sig_bak_ovr.onnx")
        for attribute, name in (("onnx_sess", "sig_bak_ovr.onnx"), ("p808_onnx_sess", "model_v8.onnx")):
            session = onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            setattr(model, attribute, session)
    return model
