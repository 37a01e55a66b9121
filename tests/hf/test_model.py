"""VQAudioModel: the codes and the audio of `AudioTokenizer`, in transformers' form, before and after a folder."""

import copy
import importlib
import json
import pickle
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization, AutoProcessor
from transformers.modeling_utils import PreTrainedAudioTokenizerBase, PreTrainedModel
from transformers.utils import logging

from tests.tiny import CONFIGS, HOP, KINDS, SAMPLE_RATE, noise, save_tiny, tiny_tokenizer
from vqaudio import AudioTokenizer, CheckpointError, CodesError
from vqaudio.config import to_dict
from vqaudio.hf import VQAudioConfig, VQAudioFeatureExtractor, VQAudioModel
from vqaudio.hf.masks import PADDING

ROOT = Path(__file__).resolve().parent.parent.parent
CODEC = to_dict(CONFIGS["rvq-projected"])
logging.disable_progress_bar()


@lru_cache
def model(kind: str = "rvq-projected") -> VQAudioModel:
    return VQAudioModel.from_vqaudio(tiny_tokenizer(kind))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def saved(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as transformers saves it, with its feature extractor."""
    folder = tmp_path_factory.mktemp("saved") / kind
    model(kind).save_pretrained(folder)
    VQAudioFeatureExtractor.for_config(model(kind).config).save_pretrained(folder)
    return folder


def batch(lengths: list[int], seed: int = 0) -> tuple[list[Tensor], dict[str, Tensor]]:
    audios = [noise(1, length, seed + number)[0] for number, length in enumerate(lengths)]
    extractor = VQAudioFeatureExtractor.for_config(model().config)
    return audios, dict(extractor(audios, sampling_rate=SAMPLE_RATE, return_tensors="pt"))


def assert_is_what_the_tokenizer_gives(found: VQAudioModel, tokenizer: AudioTokenizer, lengths: list[int]) -> None:
    audios, inputs = batch(lengths)
    output = found(**inputs)
    assert output.audio_values.shape == inputs["input_values"].shape
    for item, audio in enumerate(audios):
        codes = tokenizer.encode(audio)
        mask = output.audio_codes_mask[item]
        assert mask.sum() == codes.num_frames and mask[: codes.num_frames].all()
        assert torch.equal(output.audio_codes[item][:, mask], codes.values[0])
        assert (output.audio_codes[item][:, ~mask] == PADDING).all()
        assert torch.equal(output.audio_values[item, :, : len(audio)], tokenizer.decode(codes))
        assert not output.audio_values[item, :, len(audio) :].any()


# ---- what comes out


def test_codes_and_audio_of_a_loaded_model_are_those_of_the_tokenizer(kind: str, saved: Path) -> None:
    found = AutoModel.from_pretrained(saved)
    assert isinstance(found, VQAudioModel)
    assert_is_what_the_tokenizer_gives(found, tiny_tokenizer(kind), [5 * HOP + 3, 230 * HOP, 0, 1])


@given(st.lists(st.integers(0, 8 * HOP), min_size=1, max_size=4))
def test_a_batch_is_its_items_alone(lengths: list[int]) -> None:
    assert_is_what_the_tokenizer_gives(model(), tiny_tokenizer("rvq-projected"), lengths)


def test_what_the_mask_leaves_out_is_not_heard_whatever_it_holds() -> None:
    audio = noise(1, 100)
    rows = torch.cat([torch.full((1, 7), 9.0), audio, torch.full((1, 30), torch.nan)], dim=1)
    mask = torch.tensor([[0] * 7 + [1] * 100 + [0] * 30])
    output = model()(rows, mask)
    alone = model()(audio)
    assert torch.equal(output.audio_codes, alone.audio_codes)
    assert torch.equal(output.audio_values[..., 7:107], alone.audio_values)
    assert not output.audio_values[..., :7].any() and not output.audio_values[..., 107:].any()


@pytest.mark.parametrize("with_mask", (True, False))
def test_codes_alone_decode_to_whole_frames_of_each_item(with_mask: bool) -> None:
    _, inputs = batch([3 * HOP, 50])
    encoded = model().encode(**inputs)
    decoded = model().decode(encoded.audio_codes, encoded.audio_codes_mask if with_mask else None)
    assert decoded.audio_values.shape == (2, 1, 3 * HOP)
    assert decoded.padding_mask.sum(dim=1).tolist() == [3 * HOP, 3 * HOP]
    assert torch.equal(model().decode(encoded.audio_codes[1:]).audio_values, decoded.audio_values[1:])
    shorter = model().decode(torch.cat([encoded.audio_codes, torch.full((2, 3, 2), PADDING)], dim=2))
    assert torch.equal(shorter.audio_values, decoded.audio_values)


def test_a_prefix_of_the_codebooks_is_coded_and_decoded() -> None:
    _, inputs = batch([90, 40])
    whole, first = model().encode(**inputs), model().encode(**inputs, num_codebooks=2)
    assert torch.equal(first.audio_codes, whole.audio_codes[:, :2])
    codes = tiny_tokenizer("rvq-projected").encode(inputs["input_values"][0, 0, :90], num_codebooks=2)
    audio = model().decode(first.audio_codes, padding_mask=inputs["padding_mask"]).audio_values
    assert torch.equal(audio[0, :, :90], tiny_tokenizer("rvq-projected").decode(codes))


def test_tuples_instead_of_named_outputs() -> None:
    _, inputs = batch([90, 40])
    audio, codes, mask = model()(**inputs, return_dict=False)
    assert torch.equal(audio, model()(**inputs).audio_values)
    assert all(
        torch.equal(*pair) for pair in zip(model().encode(**inputs, return_dict=False), (codes, mask), strict=True)
    )
    assert torch.equal(model().decode(codes, mask, inputs["padding_mask"], return_dict=False)[0], audio)


def test_no_gradient_no_random_number_and_no_mode_matters() -> None:
    found, (_, inputs) = copy.deepcopy(model()), batch([90, 40])
    state, expected = torch.random.get_rng_state(), found(**inputs)
    again = found.train()(**inputs)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(again.audio_codes, expected.audio_codes)
    assert not again.audio_values.requires_grad and not any(weight.requires_grad for weight in found.parameters())


# ---- folders


def test_a_folder_keeps_config_fingerprints_and_card(kind: str, saved: Path, tmp_path: Path) -> None:
    tokenizer, found = tiny_tokenizer(kind), VQAudioModel.from_pretrained(saved)
    assert found.config.token_fingerprint == tokenizer.token_fingerprint
    back = found.to_vqaudio()
    assert back.info == tokenizer.info and back.card == tokenizer.card and back.codec.config == tokenizer.codec.config
    back.save_pretrained(tmp_path / "vqaudio")
    assert AudioTokenizer.from_pretrained(tmp_path / "vqaudio").info == tokenizer.info
    found.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_weights_keep_their_layout_in_memory(saved: Path, kind: str) -> None:
    expected, found = model(kind).codec.state_dict(), VQAudioModel.from_pretrained(saved).codec.state_dict()
    assert {name: tensor.stride() for name, tensor in found.items()} == {
        name: tensor.stride() for name, tensor in expected.items()
    }


def test_auto_classes_know_the_folder(saved: Path, kind: str) -> None:
    assert isinstance(AutoConfig.from_pretrained(saved), VQAudioConfig)
    found = AutoModelForAudioTokenization.from_pretrained(saved)
    assert isinstance(found, VQAudioModel) and isinstance(found, PreTrainedAudioTokenizerBase)
    for auto in (AutoFeatureExtractor, AutoProcessor):
        extractor = auto.from_pretrained(saved)
        assert isinstance(extractor, VQAudioFeatureExtractor)
        assert (extractor.sampling_rate, extractor.hop_length) == (SAMPLE_RATE, HOP)


def test_the_config_says_what_others_ask_of_it(kind: str) -> None:
    config, tokenizer = model(kind).config, tiny_tokenizer(kind)
    assert (config.sampling_rate, config.hop_length, config.frame_rate) == (SAMPLE_RATE, HOP, tokenizer.frame_rate)
    assert config.codebook_sizes == tokenizer.codebook_sizes and config.num_codebooks == tokenizer.num_codebooks
    assert config.codebook_size == max(tokenizer.codebook_sizes)


def test_a_shipped_model_in_16_bits_there_and_back(tmp_path: Path, speech_clip: tuple[Tensor, int]) -> None:
    tokenizer = AudioTokenizer.from_pretrained("speech-16k")
    assert tokenizer.info.storage == "float16"
    VQAudioModel.from_vqaudio("speech-16k").save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    found = AutoModel.from_pretrained(tmp_path)
    assert found.to_vqaudio().info == tokenizer.info
    audio, rate = speech_clip
    extractor = VQAudioFeatureExtractor.for_config(found.config)
    audios = [audio[0, :9_000].numpy(), audio[0, 20_000:25_001]]
    output = found(**extractor(audios, sampling_rate=rate, return_tensors="pt"))
    for item, each in enumerate(audios):
        codes = tokenizer.encode(each)
        assert torch.equal(output.audio_codes[item][:, output.audio_codes_mask[item]], codes.values[0])
        assert torch.equal(output.audio_values[item, :, : len(each)], tokenizer.decode(codes))


OFFLINE = """
import socket, sys
def refused(*arguments, **options):
    raise OSError("a test without network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
import torch
torch.set_num_threads(1)
import vqaudio.hf
from transformers import AutoModel, AutoProcessor
model, processor = AutoModel.from_pretrained(sys.argv[1]), AutoProcessor.from_pretrained(sys.argv[1])
inputs = processor([0.1] * 50, sampling_rate=processor.sampling_rate, return_tensors="pt")
print(model(**inputs).audio_codes.flatten().tolist(), model.config.token_fingerprint)
"""


def test_another_process_without_network_gives_the_same(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    VQAudioFeatureExtractor.for_config(model().config).save_pretrained(tmp_path)
    command = [sys.executable, "-W", "error::UserWarning", "-c", OFFLINE, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    codes = tiny_tokenizer("rvq-projected").encode(torch.full((50,), 0.1))
    assert result.stdout.strip() == f"{codes.values.flatten().tolist()} {codes.token_fingerprint}"


@pytest.mark.parametrize("what", ("weights", "a missing tensor", "config"))
def test_what_was_altered_is_refused(what: str, tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if name.startswith("codec.decoder"))
    if what == "weights":
        tensors[name] = tensors[name] + 1e-3
    elif what == "a missing tensor":
        del tensors[name]
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        config["codec"]["sample_rate"] = 800
        (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"do not match the (token|model) fingerprint in config\.json"):
        AutoModel.from_pretrained(tmp_path)


def test_changed_weights_are_saved_under_fingerprints_of_their_own(tmp_path: Path) -> None:
    found = copy.deepcopy(model())
    with torch.no_grad():
        next(found.codec.decoder.parameters()).add_(0.5)
    found.save_pretrained(tmp_path)
    info = AutoModel.from_pretrained(tmp_path).to_vqaudio().info
    assert info.token_fingerprint == model().config.token_fingerprint
    assert info.model_fingerprint != model().config.model_fingerprint


def test_random_weights_from_a_config_are_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = AutoModel.from_config(VQAudioConfig(codec=CODEC)).eval()
    found.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    audio = noise(2, 300)
    assert torch.equal(loaded.encode(audio).audio_codes, found.encode(audio).audio_codes)
    assert loaded.to_vqaudio().encode(audio[0]).num_frames == 15


def test_folders_of_the_two_kinds_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"load it by VQAudioModel\.from_vqaudio"):
        VQAudioModel.from_pretrained(save_tiny("fsq", tmp_path / "vqaudio"))
    model("fsq").save_pretrained(tmp_path / "hf")
    with pytest.raises(CheckpointError, match="not the config of a vqaudio model"):
        AudioTokenizer.from_pretrained(tmp_path / "hf")
    found = VQAudioModel.from_vqaudio(tmp_path / "vqaudio")
    assert found.to_vqaudio().info == tiny_tokenizer("fsq").info
    with pytest.raises(ValueError, match="without `state_dict`"):
        found.save_pretrained(tmp_path / "hf", state_dict={})


# ---- dtypes and devices


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
def test_no_dtype_changes_a_code(dtype: torch.dtype, tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    _, inputs = batch([900, 40])
    expected = model()(**inputs)
    for found in (
        AutoModel.from_pretrained(tmp_path, dtype=dtype),
        AutoModel.from_pretrained(tmp_path, torch_dtype=dtype),
        copy.deepcopy(model()).to(dtype),
        copy.deepcopy(model()).half(),
        nn.Sequential(copy.deepcopy(model())).to(dtype)[0],
    ):
        output = found(**inputs)
        assert torch.equal(output.audio_codes, expected.audio_codes)
        assert torch.equal(output.audio_values, expected.audio_values)


def test_weights_made_half_behind_its_back_are_refused() -> None:
    found = copy.deepcopy(model())
    for weight in found.parameters():
        weight.data = weight.data.half()
    with pytest.raises(ValueError, match="not float32 any more"):
        found.encode(noise(1, 100))


class Around(PreTrainedModel):
    """A model with a codec inside, as speech models of transformers have one."""

    config_class = VQAudioConfig

    def __init__(self, config: VQAudioConfig) -> None:
        super().__init__(config)
        self.audio = VQAudioModel(config)
        self.head = nn.Linear(3, 3)
        self.post_init()


@pytest.mark.parametrize("kind", ["hybrid", "fsq", "istft-simvq"])
def test_inside_a_larger_model_in_16_bits_it_stays_what_it_is(kind: str, tmp_path: Path) -> None:
    around = Around(model(kind).config)
    around.audio.codec.load_state_dict(model(kind).codec.state_dict())
    around.save_pretrained(tmp_path)
    found = Around.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert found.head.weight.dtype == torch.bfloat16
    assert_is_what_the_tokenizer_gives(found.audio, tiny_tokenizer(kind), [900, 40])


def test_it_survives_pickle() -> None:
    _, inputs = batch([90, 40])
    found = pickle.loads(pickle.dumps(model()))
    assert torch.equal(found(**inputs).audio_values, model()(**inputs).audio_values)


@pytest.mark.gpu
def test_on_a_gpu_codes_come_on_the_gpu() -> None:
    found = VQAudioModel.from_vqaudio("speech-16k", device="cuda")
    audio = noise(3, 16_000).cuda()
    output = found(audio)
    assert output.audio_codes.device.type == output.audio_values.device.type == "cuda"
    expected = VQAudioModel.from_vqaudio("speech-16k").encode(audio.cpu()).audio_codes
    assert (output.audio_codes.cpu() == expected).float().mean() > 0.99
    alone = torch.cat([found.encode(row[None]).audio_codes for row in audio])
    assert torch.equal(alone, output.audio_codes)


# ---- bad input


@pytest.mark.parametrize(
    ("audio", "mask", "message"),
    [
        (torch.zeros(2, 2, 50), None, r"shape \(2, 2, 50\); wanted is \(batch, 1, samples\), mono"),
        (torch.zeros(50), None, r"wanted is \(batch, 1, samples\)"),
        (torch.zeros(1, 50, dtype=torch.int16), None, r"int16; wanted are floats in \[-1, 1\]"),
        (torch.zeros(2, 50), torch.ones(2, 40), r"padding_mask has shape \(2, 40\)"),
        (torch.zeros(2, 50), torch.ones(50), r"wanted is \(batch, samples\)"),
        (torch.zeros(1, 4), torch.tensor([[1, 0, 1, 1]]), "the padding_mask of item 0 has zeros within its audio"),
        (torch.full((1, 50), torch.inf), None, "not a finite float32"),
    ],
)
def test_audio_that_makes_no_sense_is_refused(audio: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model().encode(audio, mask)


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (torch.zeros(3, 5), {}, r"shape \(3, 5\); wanted is \(batch, codebooks, frames\)"),
        (torch.full((2, 3, 5), 32), {}, "item 0 of audio_codes: level 0 holds code 32, outside 0 to 31"),
        (torch.tensor([[[1, PADDING, 1]] * 3]), {}, "level 0 holds code -1"),
        (torch.zeros(1, 4, 5), {}, "codes of 4 codebooks, and 1 to 3 decode"),
        (torch.zeros(1, 3, 5), {"padding_mask": torch.ones(1, 81)}, None),
        (
            torch.zeros(1, 3, 5),
            {"padding_mask": torch.ones(1, 80)},
            "5 frames of codes, and 80 samples at hop 20 are 4",
        ),
        (torch.zeros(1, 3, 5), {"padding_mask": torch.ones(2, 81)}, r"padding_mask has shape \(2, 81\)"),
        (torch.zeros(1, 3, 2), {"audio_codes_mask": torch.tensor([[0, 1]])}, "audio_codes_mask has zeros before ones"),
        (torch.zeros(1, 3, 2), {"audio_codes_mask": torch.ones(1, 3)}, r"audio_codes_mask has shape \(1, 3\)"),
    ],
)
def test_codes_that_make_no_sense_are_refused(codes: Tensor, options: dict[str, Tensor], message: str | None) -> None:
    if message is None:
        assert model().decode(codes.long(), **options).audio_values.shape == (1, 1, 81)
        return
    with pytest.raises(ValueError, match=message) as caught:
        model().decode(codes.long(), **options)
    assert "item" not in message or isinstance(caught.value, CodesError)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'codec\.bitrate' is unknown"):
        VQAudioConfig(codec={"bitrate": 3})
    with pytest.raises(ValueError, match="storage is 'bfloat16'"):
        VQAudioConfig(storage="bfloat16")


# ---- without transformers


def test_without_transformers_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vqaudio.hf")
    monkeypatch.setitem(sys.modules, "transformers.modeling_utils", None)
    with pytest.raises(ImportError, match=r"needs transformers 5\.24 or newer: pip install 'vqaudio\[hf\]'"):
        importlib.import_module("vqaudio.hf")
