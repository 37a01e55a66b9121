"""vqaudio in `transformers`: model, configuration, feature extractor, text tokenizers and generation.

    config.py      VQAudioConfig: a model's config.json as transformers has it
    model.py       VQAudioModel: input_values -> audio_codes -> audio_values, by the engine of `AudioTokenizer`
    features.py    VQAudioFeatureExtractor: recordings of any lengths -> input_values, padding_mask
    tokens.py      add_audio_tokens: the ids of a TokenSpace in a text tokenizer
    logits.py      ValidSteps: a logits processor, so that what a model writes decodes

Importing this makes `AutoConfig`, `AutoModel`, `AutoModelForAudioTokenization`, `AutoFeatureExtractor` and
`AutoProcessor` know "vqaudio"; nothing of it touches the network. docs/transformers.md shows all of it at work.
"""

try:
    from transformers.modeling_utils import PreTrainedAudioTokenizerBase as _needed  # noqa: F401
except ImportError as error:
    raise ImportError(f"vqaudio.hf needs transformers 5.24 or newer: pip install 'vqaudio[hf]' ({error})") from error

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization

from vqaudio.hf.config import VQAudioConfig as VQAudioConfig
from vqaudio.hf.features import VQAudioFeatureExtractor as VQAudioFeatureExtractor
from vqaudio.hf.logits import ValidSteps as ValidSteps
from vqaudio.hf.model import (
    VQAudioDecoderOutput as VQAudioDecoderOutput,
    VQAudioEncoderOutput as VQAudioEncoderOutput,
    VQAudioModel as VQAudioModel,
    VQAudioOutput as VQAudioOutput,
)
from vqaudio.hf.tokens import add_audio_tokens as add_audio_tokens

# At import, against the habit of this house: it is what everybody who writes `AutoModel` expects of an import.
AutoConfig.register(VQAudioConfig.model_type, VQAudioConfig, exist_ok=True)
AutoModel.register(VQAudioConfig, VQAudioModel, exist_ok=True)
AutoModelForAudioTokenization.register(VQAudioConfig, VQAudioModel, exist_ok=True)
AutoFeatureExtractor.register(VQAudioConfig, VQAudioFeatureExtractor, exist_ok=True)
