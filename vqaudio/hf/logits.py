"""ValidSteps: a logits processor that lets a model write nothing but audio that decodes.

    prompt                    pad pad text text begin | c0 c1 c2 c0 c1 …       steps count from the last begin
    continuation              text begin c0 c1 c2 c0  | c1 c2 c0 …            also if it is further back
    no begin in the prompt    pad text text text text | c0 c1 c2 …            else from the prompt's end

Each row of a batch is looked at by itself and anew at each step, so that beams may change places.
"""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from vqaudio.layouts import TokenError, TokenSpace


class ValidSteps(LogitsProcessor):
    """Gives -inf to all ids but those that `TokenSpace.valid_ids` names for the step.

    After end comes pad. To stop there, tell `generate` by `eos_token_id` and `pad_token_id`, the space's "end" and
    "pad". Without `num_frames` a model ends where it likes, between frames; `max_new_tokens` may then cut a frame in
    two, unless it is a multiple of `layout.tokens_per_frame` (less what the prompt holds of a frame).
    """

    def __init__(self, space: TokenSpace, *, prompt_length: int, num_frames: int | None = None) -> None:
        """`prompt_length` is the width of the prompts (B, L), padding included, that `generate` is given.

        With `num_frames` the audio has exactly so many, those in the prompt included. TokenError for a stacked layout:
        a model with K heads masks each by its row of `space.valid_ids`.
        """
        if space.layout.stacked:
            raise TokenError(f"a {space.layout.kind} layout has several ids a step, and `generate` writes one: mask "
                             "each head by its row of space.valid_ids")  # fmt: skip
        if prompt_length < 0:
            raise TokenError(f"prompt_length is {prompt_length}; it is the width of the prompts, 0 or more")
        space.valid_ids(0, num_frames)  # a layout that cannot do without num_frames says so
        self.space = space
        self.prompt_length = prompt_length
        self.num_frames = num_frames
        # By step and device. Many steps have few masks: those that are alike are one tensor.
        self._masks: dict[tuple[int, torch.device], Tensor] = {}
        self._distinct: dict[tuple[bytes, torch.device], Tensor] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Ids so far (B, L) and scores of the next (B, V) -> scores (B, V)."""
        if scores.shape[-1] != self.space.vocab_size:
            raise TokenError(f"the model has {scores.shape[-1]} logits and the space {self.space.vocab_size} ids; they "
                             "agree after model.resize_token_embeddings(space.vocab_size)")  # fmt: skip
        valid = torch.stack([self._mask(step, scores.device) for step in self._steps(input_ids)])
        return scores.masked_fill(~valid, -torch.inf)

    def _steps(self, input_ids: Tensor) -> list[int]:
        """Of each row the step that comes next, or -1 after its end."""
        prompt, written = input_ids[:, : self.prompt_length], input_ids[:, self.prompt_length :]
        begins, ends = (_last(prompt, self.space.special_ids[name]) for name in ("begin", "end"))
        starts = torch.where(begins > ends, begins + 1, self.prompt_length)
        ended = (written == self.space.special_ids["end"]).any(dim=1)
        return torch.where(ended, -1, input_ids.shape[1] - starts).tolist()

    def _mask(self, step: int, device: torch.device) -> Tensor:
        """(V,) bool."""
        if (step, device) not in self._masks:
            mask = self._pad_alone() if step < 0 else self.space.valid_ids(step, self.num_frames)
            same = mask.numpy().tobytes(), device
            if same not in self._distinct:
                self._distinct[same] = mask.to(device)
            self._masks[step, device] = self._distinct[same]
        return self._masks[step, device]

    def _pad_alone(self) -> Tensor:
        mask = torch.zeros(self.space.vocab_size, dtype=torch.bool)
        mask[self.space.special_ids["pad"]] = True
        return mask


def _last(ids: Tensor, id: int) -> Tensor:
    """Where an id stands last in each row of (B, L): (B,), or -1."""
    if not ids.shape[1]:
        return torch.full((len(ids),), -1, device=ids.device)
    places = torch.arange(ids.shape[1], device=ids.device)
    return torch.where(ids == id, places, -1).amax(dim=1)
