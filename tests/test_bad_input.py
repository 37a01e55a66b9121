"""Bad input is refused in one sentence that says what was given, what is wanted and which file; edges are not bad."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import HOP, noise, save_tiny, tiny_tokenizer
from vqaudio.checkpoint import CheckpointError
from vqaudio.cli import main
from vqaudio.codes import Codes, CodesError
from vqaudio.io import AudioError
from vqaudio.layouts import Parallel, TokenSpace
from vqaudio.source import AudioWarning
from vqaudio.tokenizer import AudioTokenizer


def empty(path: Path) -> None:
    path.touch()


def missing(path: Path) -> None:
    pass


def text(path: Path) -> None:
    path.write_text("Dear listener, this is no audio at all. " * 50)


def truncated_wav(path: Path) -> None:
    soundfile.write(path, noise(1, 4_000)[0].numpy(), 1_600, format="WAV")
    path.write_bytes(path.read_bytes()[:-3_001])


def truncated_flac(path: Path) -> None:
    soundfile.write(path, noise(1, 40_000)[0].numpy(), 1_600, format="FLAC")
    path.write_bytes(path.read_bytes()[:-20_000])


def with_nan(path: Path) -> None:
    samples = noise(2, 4_000).numpy()
    samples[1, 1_234] = np.nan
    soundfile.write(path, samples.T, 1_600, format="WAV", subtype="FLOAT")


BAD_AUDIO: dict[Callable[[Path], None], str] = {
    missing: "cannot be opened",
    empty: "empty",
    text: "no audio file",
    truncated_wav: "truncated",
    truncated_flac: "damaged",
    with_nan: "sample 1234 of channel 1 is nan",
}


def one_sentence(message: str) -> bool:
    return "\n" not in message and not message.endswith(".") and len(message) < 300


@pytest.mark.parametrize(("make", "expected"), BAD_AUDIO.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_bad_files_are_refused_by_name(make: Callable[[Path], None], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.wav"
    make(path)
    with pytest.raises(AudioError, match=expected) as caught:
        tiny_tokenizer("fsq").encode(path)
    assert str(path) in str(caught.value)
    assert one_sentence(str(caught.value))


def test_on_the_command_line_the_other_files_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, sources, out = save_tiny("fsq", tmp_path / "model"), tmp_path / "in", tmp_path / "out"
    sources.mkdir()
    for make in BAD_AUDIO:
        make(sources / f"{make.__name__}.wav")
    soundfile.write(sources / "good.wav", noise(1, 4_000)[0].numpy(), 1_600)
    names = [str(sources / f"{make.__name__}.wav") for make in BAD_AUDIO]
    assert main(["reconstruct", *names, str(sources / "good.wav"), "--model", str(model), "--out", str(out)]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["good.vqt", "good.wav"]
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"{len(BAD_AUDIO)} failures:"
    assert len(errors) == 1 + len(BAD_AUDIO)
    for line, name, expected in zip(errors[1:], names, BAD_AUDIO.values(), strict=True):
        assert name in line and expected in line


@pytest.mark.parametrize(("channels", "num_samples"), [(1, 0), (1, 1), (30, 200), (2, 1)])
def test_short_and_wide_files_are_good(
    channels: int, num_samples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = save_tiny("fsq", tmp_path / "model"), tmp_path / "edge.wav"
    soundfile.write(path, noise(channels, num_samples).T.numpy(), 4_410)
    for choice, expected in (("mix", 1), ("keep", channels)):
        arguments = ["--model", str(model), "--channels", choice, "--sample-rate", "source"]
        assert main(["reconstruct", str(path), "--out", str(tmp_path / choice), *arguments]) == 0
        samples, rate = soundfile.read(tmp_path / choice / "edge.wav", always_2d=True)
        assert (samples.shape, rate) == ((num_samples, expected), 4_410)
        assert Codes.load(tmp_path / choice / "edge.vqt").values.shape[::2] == (
            expected,
            -(-num_samples * 1_600 // 4_410 // HOP),
        )


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (torch.zeros(2, 3, 4), r"shape \(2, 3, 4\); wanted is \(T,\) or \(C, T\)"),
        (torch.tensor(0.0), r"shape \(\); wanted is"),
        (torch.zeros(0, 5), r"no channels"),
        (np.zeros((16_000, 2), np.float32), r"16000 channels; wanted is \(C, T\): transpose it\?"),
        (torch.zeros(5, dtype=torch.complex64), "the audio array is complex64; wanted are floats"),
        (torch.zeros(5, dtype=torch.bool), "is bool"),
        (torch.zeros(5, dtype=torch.int64), "is int64"),
        (np.array(["a", None], dtype=object), "is object"),
        (np.array([0.0, 1.0, np.nan]), "sample 2 of channel 0 is nan"),
        (torch.tensor([[0.0, 0.0], [0.0, torch.inf]]), "sample 1 of channel 1 is inf"),
        (np.array([0.0, 1e300]), r"sample 1 of channel 0 is 1e\+300, not a finite float32"),
        ([0.1, 0.2], "audio is a list; wanted is a path"),
        (None, "audio is a NoneType"),
    ],
)
def test_bad_arrays_are_refused(audio: object, expected: str) -> None:
    with pytest.raises(AudioError, match=expected) as caught:
        tiny_tokenizer("fsq").encode(audio)  # type: ignore[arg-type]
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize("rate", [0, -16_000, 16_000.0, "16000", True])
def test_bad_rates_are_refused(rate: object) -> None:
    with pytest.raises(AudioError, match=r"sample_rate is .*; it must be a positive integer number of Hz"):
        tiny_tokenizer("fsq").encode(noise(1, 100), rate)  # type: ignore[arg-type]


def test_a_rate_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 100)[0].numpy(), 4_410)
    with pytest.raises(AudioError, match=r"a\.wav: is at 4410 Hz, not 1600"):
        tiny_tokenizer("fsq").encode(tmp_path / "a.wav", 1_600)


def test_bad_options_are_refused() -> None:
    tokenizer = tiny_tokenizer("fsq")
    codes = tokenizer.encode(noise(1, 100))
    for number in (0, 3, -1):
        with pytest.raises(ValueError, match=f"num_codebooks is {number}; .* codebooks 1 to 2"):
            tokenizer.encode(noise(1, 100), num_codebooks=number)
    with pytest.raises(ValueError, match="channels is 'left'; expected one of mix, keep"):
        tokenizer.encode(noise(1, 100), channels="left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no codebook 2; this tokenizer has 0 to 1"):
        tokenizer.codebook(2)
    with pytest.raises(AudioError, match="sample_rate is 'sauce'; wanted is a number of Hz, 'source' or None"):
        tokenizer.decode(codes, sample_rate="sauce")  # type: ignore[arg-type]
    with pytest.raises(CodesError, match=r"codes are a Tensor; wanted vqaudio\.Codes"):
        tokenizer.decode(codes.values)  # type: ignore[arg-type]


def other_model(path: Path) -> None:
    tiny_tokenizer("rvq-projected").encode(noise(1, 900)).save(path)


def altered(path: Path) -> None:
    tiny_tokenizer("fsq").encode(noise(1, 900)).save(path)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    tiny_tokenizer("fsq").encode(noise(1, 900)).save(path)
    path.write_bytes(path.read_bytes()[:-1])


def test_bad_code_files_are_refused_and_the_others_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, sources, out = save_tiny("fsq", tmp_path / "model"), tmp_path / "in", tmp_path / "out"
    sources.mkdir()
    bad = {other_model: "another tokenizer", altered: "altered", truncated: "truncated"}
    for make in bad:
        make(sources / f"{make.__name__}.vqt")
    tiny_tokenizer("fsq").encode(noise(1, 900)).save(sources / "good.vqt")
    assert main(["decode", str(sources), "--model", str(model), "--out", str(out)]) == 1
    assert [path.name for path in out.iterdir()] == ["good.wav"]
    errors = capsys.readouterr().err
    assert errors.startswith("3 failures:\n")
    for make, expected in bad.items():
        (line,) = [line for line in errors.splitlines() if f"{make.__name__}.vqt" in line]
        assert expected in line


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {key: tensor for key, tensor in tensors.items() if key != "encoder.project.conv.bias"},
        folder / "model.safetensors",
    )


def add_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"encoder.bonus": torch.zeros(3)}, folder / "model.safetensors")


def misshape_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"encoder.project.conv.bias": torch.zeros(3)}, folder / "model.safetensors")


def alter_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.layers.0.conv.bias"][0] += 1
    save_file(tensors, folder / "model.safetensors")


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def unknown_key(folder: Path) -> None:
    document = json.loads((folder / "config.json").read_text())
    document["codec"]["encoder"]["stride"] = 4
    (folder / "config.json").write_text(json.dumps(document))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (drop_tensor, r"model\.safetensors: tensor 'encoder\.project\.conv\.bias' is missing"),
        (add_tensor, r"model\.safetensors: tensor 'encoder\.bonus' does not belong"),
        (misshape_tensor, r"'encoder\.project\.conv\.bias' has shape \(3,\); the config asks for \(16,\)"),
        (alter_weight, "altered"),
        (truncate_weights, r"model\.safetensors: not a readable"),
        (unknown_key, r"config\.json: config key 'codec\.encoder\.stride' is unknown"),
        (no_config, r"not a model folder: it has no config\.json"),
    ],
)
def test_damaged_models_are_refused(
    damage: Callable[[Path], None], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny("fsq", tmp_path / "model")
    damage(folder)
    with pytest.raises(CheckpointError, match=expected) as caught:
        AudioTokenizer.from_pretrained(folder)
    assert str(folder) in str(caught.value)
    soundfile.write(tmp_path / "a.wav", noise(1, 100)[0].numpy(), 1_600)
    out = tmp_path / "out"
    assert main(["encode", str(tmp_path / "a.wav"), "--model", str(folder), "--out", str(out)]) == 1
    assert capsys.readouterr().err.splitlines() == [f"vqaudio: {caught.value}"]
    assert not out.exists()


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = save_tiny("fsq", tmp_path / "model")
    for device in ("quantum", "cuda:99"):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used") as caught:
            AudioTokenizer.from_pretrained(folder, device=device)
        assert one_sentence(str(caught.value))


# ---- calls that mean something else


@pytest.mark.parametrize("given", [2.0, "2", True])
def test_a_number_of_codebooks_that_is_no_integer(given: object) -> None:
    with pytest.raises(ValueError, match=f"num_codebooks is {given!r}; it must be an integer, 1 to 3") as caught:
        tiny_tokenizer("rvq-projected").encode(noise(1, 100), num_codebooks=given)  # type: ignore[arg-type]
    assert one_sentence(str(caught.value))


def test_any_integer_is_a_number_of_codebooks() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    assert tokenizer.encode(noise(1, 100), num_codebooks=np.int64(2)) == tokenizer.encode(noise(1, 100)).prefix(2)


def test_seconds_that_are_no_numbers() -> None:
    with pytest.raises(CodesError, match="start and end are '1' and inf; wanted are numbers of seconds"):
        tiny_tokenizer("rvq-projected").encode(noise(1, 100), start="1")  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [1.5, 0, "1"])
def test_frames_of_a_block_that_are_no_number(frames: object) -> None:
    with pytest.raises(ValueError, match=f"block_frames is {frames!r}; it must be an integer of at least 1"):
        tiny_tokenizer("rvq-projected").session(block_frames=frames)  # type: ignore[arg-type]


def test_one_recording_where_several_are_wanted(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    with pytest.raises(AudioError, match=r"audios is 'speech\.flac'; wanted are several recordings, as a list"):
        tokenizer.encode_batch("speech.flac")
    with pytest.raises(CodesError, match="wanted are those of several, as a list"):
        tokenizer.decode_batch(tokenizer.encode(noise(1, 100)))  # type: ignore[arg-type]


def test_several_recordings_where_one_is_wanted() -> None:
    for shape in ((2, 1, 100), (65, 100)):
        with pytest.raises(AudioError, match="encode_batch takes several") as caught:
            tiny_tokenizer("rvq-projected").encode(torch.zeros(shape))
        assert one_sentence(str(caught.value))


def test_a_file_that_is_open_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with open(tmp_path / "a.wav") as file, pytest.raises(AudioError, match=r"a\.wav: is open as text; open it with"):
        tiny_tokenizer("rvq-projected").encode(file)  # type: ignore[arg-type]


def test_a_name_that_is_empty() -> None:
    with pytest.raises(CheckpointError, match=r"^'': neither a folder nor a model that ships"):
        AudioTokenizer.from_pretrained("")


def test_bare_numbers_where_codes_are_wanted() -> None:
    """The message names the way, and the way works."""
    tokenizer = tiny_tokenizer("rvq-projected")
    codes = tokenizer.encode(noise(1, 10 * HOP))
    with pytest.raises(CodesError, match="by the to_codes of a TokenSpace of layout Parallel"):
        tokenizer.decode(codes.values[0])  # type: ignore[arg-type]
    space = TokenSpace.of(tokenizer, Parallel(codebook_sizes=tokenizer.codebook_sizes))
    assert torch.equal(tokenizer.decode(space.to_codes(codes.values[0])), tokenizer.decode(codes))


def test_weights_of_another_precision_are_refused() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer("rvq-projected"))
    codes = tokenizer.encode(noise(1, 100))
    tokenizer.codec.half()
    for call in (lambda: tokenizer.encode(noise(1, 100)), lambda: tokenizer.decode(codes)):
        with pytest.raises(ValueError, match=r"the codec's weights are torch\.float16; .* undo it by codec\.float\(\)"):
            call()


def test_pcm_that_was_made_float_is_told_and_coded() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    audio = 10_000 * noise(1, 500)
    with pytest.warns(AudioWarning, match="is it PCM that was made float and not scaled"):
        assert tokenizer.encode(audio).num_samples == 500
    tokenizer.encode((audio * 0.9).to(torch.int16))
    tokenizer.encode(audio / 2**15)


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    codes = tiny_tokenizer("rvq-projected").encode(noise(1, 100))
    with pytest.raises(OSError, match="name") as caught:
        codes.save(tmp_path / f"{'a' * 300}.vqt")
    assert ".partial" not in str(caught.value)
