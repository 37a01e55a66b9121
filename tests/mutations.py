"""Whether the tests can fail: each mutation below breaks a copy of the package, and its tests must notice.

    python tests/mutations.py             all of them, some ten minutes of two cores
    python tests/mutations.py residual    those whose name or file holds the word
    python tests/mutations.py --some 12   12 of them, which the commit chooses: with every commit others

A mutation is a piece of a file's text and what takes its place: the kinds of mistake that have cost others months, and
those that could creep in here. The tests named must pass on the unbroken copy, and fail, not merely stop with an
error of collection, on the broken one. The exit status is 1 if a mutation survives, or if its text is not to be found
exactly once because the code has moved on: then the mutation has to move along.
"""

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("vqaudio", "tests", "samples", "recipes", "pyproject.toml")
OUTPUT_NAME = "output.txt"
TIMEOUT_SECONDS = 300
# Each run is a process of its own, forked from one that has done the slow imports. Neither the package nor pytest's
# plugins (such as hypothesis, or anyio, which transformers brings) are among them.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["torch", "torch._dynamo", "safetensors.torch", "soundfile", "pytest"]
ALL_PASSED, SOME_FAILED = 0, 1  # pytest's exit codes; 2 and above are errors of another kind

BASE, VQ, RESIDUAL = "tests/quantize/test_base.py", "tests/quantize/test_vq.py", "tests/quantize/test_residual.py"
BLOCKS, RUN = "tests/engine/test_blocks.py", "tests/engine/test_run.py"
CONV, CODEC, CHECKPOINT = "tests/nn/test_conv.py", "tests/models/test_codec.py", "tests/test_checkpoint.py"
SOURCES, DOWNLOAD = "tests/data/test_sources.py", "tests/data/test_download.py"
STEP, STAGES, PARENT = (f"tests/training/test_{name}.py" for name in ("step", "stages", "parent"))
LAYOUTS, READING, TABLES, SPACE, TOKEN_FILES = (
    f"tests/layouts/test_{name}.py" for name in ("laws", "reading", "tables", "space", "token_files")
)
EVALUATION = "tests/evaluation"
DATASETS, ENCODE_FOLDER = "tests/lm/test_datasets.py", "tests/test_encode_folder.py"
LM = "tests/lm/test"
HF_MODEL, HF_TOKENS, HF_LOGITS = (f"tests/hf/test_{name}.py" for name in ("model", "tokens", "logits"))
RESUME, RANKS = "tests/training/test_resume.py", "tests/training/test_ranks.py"


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in `file`; at least one of `tests` must turn red."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "what could not be written at the end of a file goes unnoticed",
        "vqaudio/io.py",
        "            self.error = self.error or error",
        "            pass",
        ("tests/test_io.py::test_a_full_disk_is_told_and_leaves_what_was_there",),
    ),
    Mutation(
        "links to one content are one recording",
        "vqaudio/cli/files.py",
        "found.setdefault(normal(path), (path, relative))",
        "found.setdefault(_real(path), (path, relative))",
        ("tests/test_cli.py::test_links_are_recordings_of_their_own",),
    ),
    Mutation(
        "originals beside their codes are replaced",
        "vqaudio/cli/coding.py",
        "        if older and normal",
        "        if False and normal",
        ("tests/test_cli.py::test_decoding_beside_the_originals_leaves_them",),
    ),
    Mutation(
        "one bad line costs all that follow",
        "vqaudio/layouts/files.py",
        'yield Sequence("", place, None, {}, error)',
        "raise error",
        ("tests/layouts/test_token_files.py::test_a_bad_line_does_not_cost_the_others_their_turn",),
    ),
    Mutation(
        "recordings listed by absolute paths scored beside themselves",
        "vqaudio/evaluation/decoded.py",
        "base = Path(self.folder) / below(path).with_suffix",
        "base = Path(self.folder) / Path(path).with_suffix",
        ("tests/evaluation/test_decoded.py::test_paths_that_lead_elsewhere_are_looked_for_in_the_folder",),
    ),
    Mutation(
        "decoded files that were replaced keep their scores",
        "vqaudio/evaluation/evaluate.py",
        "    if not isinstance(system, DecodedFolder):\n        return",
        "    if True:\n        return",
        ("tests/evaluation/test_commands.py::test_decoded_files_that_have_changed_are_scored_anew",),
    ),
    Mutation(
        "a grid of two values has its mean on one of them",
        "vqaudio/quantize/fsq.py",
        " / scales - self._bounds()[2])",
        " / scales)",
        ("tests/quantize/test_fsq.py::test_after_the_fit_all_values_of_a_dimension_are_in_use",),
    ),
    Mutation(
        "a split code that keeps its count beside its twin",
        "vqaudio/quantize/vq.py",
        "share = self.ema_counts / (1 + torch.bincount(owners, minlength=self.size))",
        "share = self.ema_counts.clone()",
        ("tests/quantize/test_vq.py::test_a_split_code_is_reborn_beside_one_of_much_use_and_takes_half_its_count",),
    ),
    Mutation(
        "codebooks averaged over the places where their codes were revived",
        "vqaudio/training/average.py",
        "            kept.copy_(newest)",
        "            kept.lerp_(newest, 1.0 - decay) if kept.is_floating_point() else kept.copy_(newest)",
        ("tests/training/test_average.py",),
    ),
    Mutation(
        "loudness compressed twice",
        "vqaudio/losses/spectral.py",
        "power.pow((_COMPRESSION - 1.0) / 2.0)",
        "power.pow(_COMPRESSION - 1.0)",
        ("tests/losses/test_losses.py::test_compressed_spectra_measure_gain_as_loudness",),
    ),
    Mutation(
        "straight-through dropped",
        "vqaudio/quantize/base.py",
        "return latents + (quantized - latents).detach()",
        "return quantized",
        (f"{BASE}::test_straight_through_is_the_value_of_one_and_the_gradient_of_the_other",),
    ),
    Mutation(
        "residual not detached, so that levels cancel each other's gradients",
        "vqaudio/quantize/residual.py",
        "residual = residual - out.contribution.detach()",
        "residual = residual - out.contribution",
        (f"{RESIDUAL}::test_gradient_of_projected_levels_is_that_of_the_reference",),
    ),
    Mutation(
        "no commitment to the encoder beyond the first level",
        "vqaudio/quantize/residual.py",
        "out = level(residual)\n",
        "out = level(residual if index == 0 else residual.detach())\n",
        (f"{RESIDUAL}::test_commitment_of_every_level_reaches_the_encoder",),
    ),
    Mutation(
        "straight-through around unprojected levels dropped",
        "vqaudio/quantize/residual.py",
        "quantized = total if projected else THROUGH[self.through](total, z)",
        "quantized = total",
        (f"{RESIDUAL}::test_gradient_of_unprojected_levels_is_the_decoders",),
    ),
    Mutation(
        "prefix ignores num_codebooks",
        "vqaudio/quantize/residual.py",
        "for level in self.chain[:K]:",
        "for level in self.chain:",
        (f"{BASE}::test_fewer_codebooks_are_the_first_rows",),
    ),
    Mutation(
        "averages move in evaluation mode",
        "vqaudio/quantize/residual.py",
        "learning = self.training and ranks.agreed(",
        "learning = ranks.agreed(",
        (f"{BASE}::test_frozen_quantiser_does_not_move",),
    ),
    Mutation(
        "averages move in encode",
        "vqaudio/quantize/residual.py",
        "            indices = level.select(residual)\n            residual",
        "            indices = level.select(residual)\n"
        "            level.learn(residual, indices, generator=None)\n            residual",
        (f"{BASE}::test_encode_and_decode_leave_no_trace_and_ignore_the_mode",),
    ),
    Mutation(
        "codes revived without their count",
        "vqaudio/quantize/vq.py",
        "        self.ema_counts[dead] = uniform\n",
        "",
        (f"{VQ}::test_revived_code_survives_the_next_update", f"{VQ}::test_sixty_dead_codes_of_64_come_to_use"),
    ),
    Mutation(
        "codes revived without their sum",
        "vqaudio/quantize/vq.py",
        "        self.ema_sums[dead] = chosen * uniform\n",
        "",
        (f"{VQ}::test_revived_code_survives_the_next_update", f"{VQ}::test_sixty_dead_codes_of_64_come_to_use"),
    ),
    Mutation(
        "farthest code instead of nearest",
        "vqaudio/quantize/vq.py",
        "scores.detach().numpy().argmax(axis=-1)",
        "scores.detach().numpy().argmin(axis=-1)",
        (f"{VQ}::test_nearest_is_the_least_distance_and_ties_go_to_the_lowest_index",),
    ),
    Mutation(
        "squared length of the codes counted in full",
        "vqaudio/quantize/vq.py",
        "bias = -0.5 * codes.square()",
        "bias = -1.0 * codes.square()",
        (f"{VQ}::test_nearest_is_the_least_distance_and_ties_go_to_the_lowest_index",),
    ),
    Mutation(
        "ties to the highest index",
        "vqaudio/quantize/vq.py",
        "scores.detach().numpy().argmax(axis=-1)",
        "scores.shape[-1] - 1 - scores.detach().numpy()[:, ::-1].argmax(axis=-1)",
        (f"{VQ}::test_nearest_is_the_least_distance_and_ties_go_to_the_lowest_index",),
    ),
    Mutation(
        "normalised codes drift off unit length",
        "vqaudio/quantize/vq.py",
        'return self.normalized(self.transform(self.vectors) if self.update == "simvq" else self.vectors)',
        'return self.transform(self.vectors) if self.update == "simvq" else self.vectors',
        (f"{VQ}::test_normalised_codes_keep_unit_length",),
    ),
    Mutation(
        "SimVQ revives codes, and writes into vectors that are to stay",
        "vqaudio/quantize/vq.py",
        '        if self.update == "simvq":\n            return indices[:0]\n',
        "",
        (f"{VQ}::test_simvq_revives_nothing",),
    ),
    Mutation(
        "the rotation trick without its ratio of lengths",
        "vqaudio/quantize/base.py",
        "scale = lengths[1] / lengths[0].clamp(min=_SHORTEST)",
        "scale = torch.ones_like(lengths[0])",
        (f"{BASE}::test_rotation_trick_without_a_direction_is_straight_through",),
    ),
    Mutation(
        "windows put together in the order of tap and not of age",
        "vqaudio/nn/spectral.py",
        ".flip(1).permute(1, 0, 2)",
        ".permute(1, 0, 2)",
        (f"{CODEC}::test_istft_of_a_known_spectrum",),
    ),
    Mutation(
        "codebooks learn from NaN",
        "vqaudio/quantize/vq.py",
        "        if not x.isfinite().all():\n            return indices[:0]\n",
        "",
        (f"{VQ}::test_a_batch_that_is_not_finite_teaches_nothing",),
    ),
    Mutation(
        "scalar grid without its offset for even counts",
        "vqaudio/quantize/fsq.py",
        ".float() * 0.5",
        ".float() * 0.0",
        ("tests/quantize/test_fsq.py::test_dimensions_have_exactly_their_number_of_values",),
    ),
    Mutation(
        "history off by one",
        "vqaudio/nn/conv.py",
        "stream[key] = rows[:, rows.shape[1] - history :]",
        "stream[key] = rows[:, rows.shape[1] - history - 1 : -1]",
        (f"{CONV}::test_stream_in_any_steps_is_the_whole",),
    ),
    Mutation(
        "a convolution that sees one sample of the future",
        "vqaudio/nn/conv.py",
        "return rows\n    past = None",
        "return rows\n    rows = torch.cat([rows[:, 1:], rows[:, :1]], dim=1)\n    past = None",
        (f"{CONV}::test_frame_sees_its_history_and_its_own_samples_only",),
    ),
    Mutation(
        "import up the stairs",
        "vqaudio/nn/conv.py",
        "    for name, module in root.named_modules():\n",
        "    import vqaudio.models\n\n    for name, module in root.named_modules():\n",
        ("tests/test_imports.py::test_imports_go_down_the_stairs",),
    ),
    Mutation(
        "norm over time, so that frames meet",
        "vqaudio/nn/activation.py",
        "mean_square = x.square().mean(dim=1, keepdim=True)",
        "mean_square = x.square().mean(dim=(1, 2), keepdim=True)",
        ("tests/nn/test_activation.py::test_channel_norm_frames_do_not_meet",),
    ),
    Mutation(
        "partial frame lost",
        "vqaudio/models/codec.py",
        "return -(-num_samples // self.hop_length)",
        "return num_samples // self.hop_length",
        (f"{CODEC}::test_frames_cover_the_samples",),
    ),
    Mutation(
        "encoder's look-ahead not dropped",
        "vqaudio/models/codec.py",
        "return self.encoder(padded)[..., L:]",
        "return self.encoder(padded)[..., :N]",
        (f"{CODEC}::test_last_sample_in_sight_is_seen",),
    ),
    Mutation(
        "decoder's look-ahead not dropped",
        "vqaudio/models/codec.py",
        "[..., self.samples_for(L) :]",
        "[..., : self.samples_for(latents.shape[-1])]",
        (f"{CODEC}::test_samples_see_the_decoders_look_ahead_and_no_further",),
    ),
    Mutation(
        "receptive field without the layers' strides",
        "vqaudio/models/seanet.py",
        "            unit *= layer.stride\n",
        "",
        (f"{CODEC}::test_receptive_field_is_tight",),
    ),
    Mutation(
        "look-ahead not dropped by the engine",
        "vqaudio/engine/grid.py",
        "start = block * self.out_size - self.out_delay",
        "start = block * self.out_size",
        (f"{BLOCKS}::test_latents_of_blocks_are_those_of_the_whole",),
    ),
    Mutation(
        "warm-up one block short",
        "vqaudio/engine/sides.py",
        "warm_up=-(-past // block))",
        "warm_up=-(-past // block) - 1)",
        (f"{RUN}::test_workers_change_no_byte",),
    ),
    Mutation(
        "pieces that start apart not warmed up",
        "vqaudio/engine/run.py",
        "[{} for _ in batch[0].data], warm_up=recent)",
        "[{} for _ in batch[0].data])",
        (f"{RUN}::test_workers_change_no_byte",),
    ),
    Mutation(
        "a piece goes on with a state that is not ready",
        "vqaudio/engine/run.py",
        "if previous is not None and previous.finished:",
        "if previous is not None:",
        (f"{RUN}::test_workers_change_no_byte", f"{RUN}::test_workers_share_one_recording_for_the_price_of_warming_up"),
    ),
    Mutation(
        "a run that has several seats keeps them",
        "vqaudio/engine/run.py",
        "            self.seats.give(seats)\n",
        "            self.seats.give()\n",
        (f"{RUN}::test_closing_early_ends_the_work",),
    ),
    Mutation(
        "blocks run on as many threads as the caller has",
        "vqaudio/engine/conditions.py",
        "    torch.set_num_threads(1)\n",
        "    pass\n",
        (f"{BLOCKS}::test_blocks_run_on_one_thread",),
    ),
    Mutation(
        "the caller's number of threads not restored",
        "vqaudio/engine/conditions.py",
        "            torch.set_num_threads(num_threads)\n",
        "            pass\n",
        (f"{RUN}::test_new_threads_keep_the_callers_number",),
    ),
    Mutation(
        "lanes of a batch mixed up",
        "vqaudio/engine/sides.py",
        "own[key] = states[row : row + 1]",
        "own[key] = states[:1]",
        (f"{RUN}::test_lanes_side_by_side_are_near_ties_at_most",),
    ),
    Mutation(
        "the interpreter does not wait for workers that compute",
        "vqaudio/engine/conditions.py",
        "@atexit.register\n",
        "",
        (f"{RUN}::test_an_end_of_the_process_waits_for_blocks_under_way",),
    ),
    Mutation(
        "a program forgets to bring its past up to date",
        "vqaudio/nn/program.py",
        "            operations.append(lambda: head.copy_(tail.clone() if overlap else tail))\n",
        "",
        ("tests/nn/test_program.py::test_program_does_what_the_layers_do",),
    ),
    Mutation(
        "memory of a program given away too early",
        "vqaudio/nn/program.py",
        "if self._last_use[value] == position]",
        "if self._last_use[value] >= position]",
        ("tests/nn/test_program.py::test_program_does_what_the_layers_do",),
    ),
    Mutation(
        "moved weights go unnoticed",
        "vqaudio/nn/program.py",
        "return self.weights == tuple(",
        "return True or self.weights == tuple(",
        ("tests/nn/test_program.py::test_weights_that_moved_are_noticed",),
    ),
    Mutation(
        "folded search without what earlier levels took away",
        "vqaudio/quantize/folded.py",
        "z[:, self._ends[k + 1] :] -= ",
        "z[:, self._ends[k + 1] :] += 0 * ",
        ("tests/quantize/test_folded.py::test_codes_are_those_of_the_search_in_full",),
    ),
    Mutation(
        "changed weights searched as they were",
        "vqaudio/quantize/folded.py",
        "return all(map(torch.equal, self._weights, _tensors(quantizer)))",
        "return True",
        ("tests/quantize/test_folded.py::test_any_change_of_the_weights_is_noticed",),
    ),
    Mutation(
        "gap of the last level that differs instead of the first",
        "vqaudio/quantize/ties.py",
        "(of_a != of_b) & gaps.isnan()",
        "(of_a != of_b)",
        ("tests/quantize/test_ties.py::test_only_the_first_level_that_differs_counts",),
    ),
    Mutation(
        "an excerpt encoded from where it starts",
        "vqaudio/coding.py",
        "        start = grid.start_of(first_block) * grid.size\n",
        "        start = first_block * grid.size\n",
        ("tests/test_excerpts.py::test_codes_of_an_excerpt_are_a_slice_of_the_whole",),
    ),
    Mutation(
        "an excerpt decoded to the end",
        "vqaudio/coding.py",
        "total=lambda _: last, num_blocks=num_blocks, first_block=first_block",
        "total=lambda _: last, first_block=first_block",
        ("tests/test_excerpts.py::test_no_more_is_computed_than_the_excerpt_and_its_warm_up",),
    ),
    Mutation(
        "an excerpt's resampler off its grid",
        "vqaudio/dsp.py",
        "before = block * self._bank.block_inputs - self._bank.context",
        "before = block * self._bank.block_inputs - self._bank.context + 1",
        ("tests/test_dsp.py::test_a_signal_without_its_beginning_goes_on_as_the_whole",),
    ),
    Mutation(
        "a session's copy shares its state",
        "vqaudio/session.py",
        ".detach().cpu().contiguous().clone() for key",
        ".detach().cpu() for key",
        ("tests/test_session.py::test_a_session_goes_on_elsewhere",),
    ),
    Mutation(
        "a bad chunk takes effect",
        "vqaudio/session.py",
        "checked = [session._checked(chunk) for session, chunk in taken]",
        "checked = [s._checked(chunk) if s._blocks(s._checked(chunk)) is None else chunk for s, chunk in taken]",
        ("tests/test_session.py::test_a_bad_chunk_leaves_the_session_as_it_was",),
    ),
    Mutation(
        "files of sessions not compared with their hash",
        "vqaudio/session.py",
        'if document.pop("sha256", None) != _hash(document, tensors):',
        'if document.pop("sha256", None) is None:',
        ("tests/test_session.py::test_files_of_sessions_are_checked",),
    ),
    Mutation(
        "golden codes may differ on the machine they were made on",
        "vqaudio/doctor.py",
        "good = against_golden.differing == 0 if same_machine else against_golden.explained",
        "good = True",
        ("tests/test_doctor.py::test_the_doctor_tells_wrong_codes_from_rounding",),
    ),
    Mutation(
        "resampled length rounded down",
        "vqaudio/dsp.py",
        "return -(-num_samples * target_rate // source_rate)",
        "return num_samples * target_rate // source_rate",
        ("tests/test_dsp.py::test_the_length_is_exact_for_any_two_rates",),
    ),
    Mutation(
        "NaN read from files",
        "vqaudio/io.py",
        "if not np.isfinite(block).all():",
        "if False:",
        ("tests/test_bad_input.py::test_bad_files_are_refused_by_name",),
    ),
    Mutation(
        "hash of code files not compared",
        "vqaudio/codes.py",
        "if _to_bytes(codes) != data:",
        "if False:",
        ("tests/test_codes.py::test_one_byte_altered_anywhere_is_refused",),
    ),
    Mutation(
        "codes of another tokenizer decoded",
        "vqaudio/session.py",
        "if codes.token_fingerprint != info.token_fingerprint:",
        "if False:",
        ("tests/test_tokenizer.py::test_codes_of_another_tokenizer_are_refused_and_those_of_another_decoder_not",),
    ),
    Mutation(
        "token fingerprint of a model not compared",
        "vqaudio/checkpoint.py",
        'codec.hop_length) != document["token_fingerprint"]:',
        "codec.hop_length) is None:",
        (f"{CHECKPOINT}::test_altered_config_is_refused",),
    ),
    Mutation(
        "any folder with a config.json replaced",
        "vqaudio/checkpoint.py",
        'return isinstance(document, dict) and document.get("format") == FORMAT',
        "return True",
        (f"{CHECKPOINT}::test_a_folder_that_is_no_model_is_not_replaced",),
    ),
    Mutation(
        "unknown settings let through",
        "vqaudio/config.py",
        "        if key not in fields:\n",
        "        if False:\n",
        ("tests/test_config.py::test_what_is_wrong_is_named_by_its_path",),
    ),
    Mutation(
        "speakers of a corpus on two sides",
        "vqaudio/data/sources/tree.py",
        "kept = tuple(item for item in items if split_of[item.speaker] == item.split)",
        "kept = tuple(items)",
        (
            f"{SOURCES}::test_what_a_corpus_holds_and_what_is_left_out_of_it",
            f"{SOURCES}::test_each_audio_file_is_listed_once_whatever_is_wrong_with_the_corpus",
        ),
    ),
    Mutation(
        "a corpus in the order of the disk",
        "vqaudio/data/sources/tree.py",
        "        folders.sort()\n",
        "",
        (f"{SOURCES}::test_the_order_in_which_a_disk_lists_files_has_no_effect",),
    ),
    Mutation(
        "a download that goes on though the server began again",
        "vqaudio/data/download.py",
        "        if begin != have:",
        "        if False:",
        (f"{DOWNLOAD}::test_a_server_without_ranges_sends_everything_again",),
    ),
    Mutation(
        "a download with a wrong checksum gone on with",
        "vqaudio/data/download.py",
        "        partial.unlink()  # going on at its end would not mend it\n",
        "",
        (f"{DOWNLOAD}::test_a_wrong_checksum_is_refused_and_nothing_of_it_stays",),
    ),
    Mutation(
        "half an archive unpacked taken for all of it",
        "vqaudio/data/download.py",
        "return note.unpacked if note else",
        "return True if note else",
        (f"{DOWNLOAD}::test_unpacking_that_was_cut_off_is_done_again",),
    ),
    Mutation(
        "archives that write where they like",
        "vqaudio/data/unpack.py",
        'filter="data"',
        'filter="fully_trusted"',
        (
            f"{DOWNLOAD}::test_members_outside_the_folder_are_refused",
            f"{DOWNLOAD}::test_links_out_of_the_folder_are_refused",
        ),
    ),
    Mutation(
        "the checksum at the end of an archive not read",
        "vqaudio/data/unpack.py",
        "        while file.read(_COPY_BYTES):",
        "        while False:",
        (f"{DOWNLOAD}::test_without_a_published_checksum_the_archive_itself_must_be_sound",),
    ),
    Mutation(
        "steps taken on losses and gradients that are not finite",
        "vqaudio/training/step.py",
        "if not parts[name].isfinite():",
        "if False:",
        ("tests/training/test_step.py::test_a_gradient_that_is_not_finite_changes_no_weight",),
    ),
    Mutation(
        "revived codes keep the momentum of the dead",
        "vqaudio/training/step.py",
        "moment[reborn.rows] = 0.0",
        "pass",
        ("tests/training/test_step.py::test_revived_codes_lose_the_momentum_of_the_dead",),
    ),
    Mutation(
        "codes that a skipped batch has revived stay",
        "vqaudio/training/step.py",
        "reborn.undo()",
        "pass",
        ("tests/training/test_step.py::test_a_batch_that_is_skipped_revives_nothing",),
    ),
    Mutation(
        "minutes as if codes cost nothing",
        "vqaudio/training/loop.py",
        "bare = self.quantize_after if self.quantize_after > UNMEASURED_STEPS else 0",
        "bare = 0",
        ("tests/training/test_stages.py::test_minutes_reckon_with_codes_that_are_not_learned_yet",),
    ),
    Mutation(
        "losses of frozen codebooks divided by each process for itself",
        "vqaudio/quantize/residual.py",
        "shared=torch.is_grad_enabled()",
        "shared=self.training",
        (f"{RESIDUAL}::test_losses_of_a_process_add_up_to_those_of_the_whole_batch",),
    ),
    Mutation(
        "a product added to what it is still made of",
        "vqaudio/nn/program.py",
        "(node.output, *node.inputs)",
        "(node.output,)",
        ("tests/nn/test_program.py::test_a_product_of_what_it_is_added_to",),
    ),
    Mutation(
        "forked processes keep as many threads as their parent",
        "vqaudio/engine/conditions.py",
        "after_in_child=lambda: torch.set_num_threads(1)",
        "after_in_child=lambda: None",
        ("tests/test_tokenizer.py::test_forked_processes_do_not_wait_for_threads_that_stayed_behind",),
    ),
    Mutation(
        "tokens of a folder replaced by those of another",
        "vqaudio/cli/tokens.py",
        "file.writelines(other_lines(out / ALL_NAME, writer.names))",
        "pass",
        ("tests/layouts/test_token_files.py::test_recordings_that_were_there_stay",),
    ),
    Mutation(
        "codes of another model replaced without a word",
        "vqaudio/cli/indexing.py",
        "() if options.overwrite else journal.entries.values()",
        "()",
        (f"{ENCODE_FOLDER}::test_codes_of_two_kinds_do_not_get_into_one_folder",),
    ),
    Mutation(
        "hash of checkpoints not compared on resume",
        "vqaudio/training/state.py",
        '.hexdigest() != document["sha256"][name]:',
        ".hexdigest() is None:",
        ("tests/training/test_loop.py::test_a_damaged_checkpoint_falls_back_to_the_one_before",),
    ),
    Mutation(
        "the loss of discriminators reaches the codec",
        "vqaudio/training/step.py",
        "lowered.backward(retain_graph=True, inputs=discriminators.learning)",
        "lowered.backward(retain_graph=True)",
        (f"{STEP}::test_each_loss_reaches_its_own_player_and_no_other",),
    ),
    Mutation(
        "the loss of the codec reaches discriminators",
        "vqaudio/training/step.py",
        "total.backward(inputs=codec.learning)",
        "total.backward()",
        (f"{STEP}::test_each_loss_reaches_its_own_player_and_no_other",),
    ),
    Mutation(
        "discriminators count in full from their first step",
        "vqaudio/training/step.py",
        "added = ramp * sum(",
        "added = sum(",
        (f"{STEP}::test_each_loss_reaches_its_own_player_and_no_other",),
    ),
    Mutation(
        "discriminators not clipped",
        "vqaudio/training/step.py",
        "nn.utils.clip_grad_norm_(player.learning, player.clip_norm)",
        "nn.utils.clip_grad_norm_(player.learning, player.clip_norm if player is codec else 1e9)",
        (f"{STEP}::test_discriminators_are_clipped_by_themselves",),
    ),
    Mutation(
        "frozen parts get gradients",
        "vqaudio/training/players.py",
        "part.requires_grad_(name not in parts)",
        "part.requires_grad_(True)",
        (f"{RESUME}::test_only_the_decoder_moves_in_its_stage",),
    ),
    Mutation(
        "frozen codebooks learn by averages",
        "vqaudio/training/players.py",
        "part.train(name not in parts)",
        "part.train(True)",
        (f"{RESUME}::test_only_the_decoder_moves_in_its_stage",),
    ),
    Mutation(
        "the decoder learns to read codes that do not ship",
        "vqaudio/training/loop.py",
        'if begins and stage == "decoder":',
        'if begins and stage == "nothing":',
        (f"{RESUME}::test_only_the_decoder_moves_in_its_stage",),
    ),
    Mutation(
        "codes learned over a kept encoder not settled as stored",
        "vqaudio/training/loop.py",
        'if storage_of(self.parent) == "float16":',
        "if not self.recipe.freeze:",
        (f"{PARENT}::test_codebooks_that_learn_over_a_kept_encoder_are_settled_as_they_ship",),
    ),
    Mutation(
        "a stage not begun if its first step went by while the budget was measured",
        "vqaudio/training/loop.py",
        "begins = self.stage is not None or state.step ==",
        "begins = state.step ==",
        (f"{RESUME}::test_a_stage_that_begins_while_the_budget_is_measured_begins_late",),
    ),
    Mutation(
        "stages begin one step late",
        "vqaudio/training/recipe.py",
        "first[stage] = round(done * total_steps)",
        "first[stage] = round(done * total_steps) + 1",
        (f"{STAGES}::test_every_step_has_a_stage_and_they_come_in_order",),
    ),
    Mutation(
        "the best of a stage measured by the stage before",
        "vqaudio/training/loop.py",
        "state.best = None  # each stage has another aim",
        "pass",
        (f"{RESUME}::test_the_best_of_a_stage_is_not_measured_by_the_stage_before",),
    ),
    Mutation(
        "the average of the weights not saved",
        "vqaudio/training/state.py",
        '{"average": self.average.codec, **{name',
        "{**{name",
        (f"{RESUME}::test_a_finished_run_resumed_is_what_it_was",),
    ),
    Mutation(
        "the log of a resumed run keeps what came after its checkpoint",
        "vqaudio/training/log.py",
        "self.path.read_bytes()[:size]",
        "self.path.read_bytes()",
        (f"{RESUME}::test_a_finished_run_resumed_is_what_it_was",),
    ),
    Mutation(
        "new checkpoints deleted for damaged ones with higher numbers",
        "vqaudio/training/state.py",
        "found[:here] + found[here + keep :]",
        "found[keep:]",
        (f"{RESUME}::test_checkpoints_after_a_damaged_one_stay",),
    ),
    Mutation(
        "ranks: one alone decides",
        "vqaudio/ranks.py",
        "return bool(value.item())",
        "return bool(flag)",
        (f"{RANKS}::test_what_two_processes_exchange_is_the_same_on_both",),
    ),
    Mutation(
        "ranks: rows gathered in another order",
        "vqaudio/ranks.py",
        "zip(pieces, sizes, strict=True)])",
        "zip(pieces[::-1], sizes[::-1], strict=True)])",
        (f"{RANKS}::test_what_two_processes_exchange_is_the_same_on_both",),
    ),
    Mutation(
        "health: a codebook judged before its dead codes were revived",
        "vqaudio/training/health.py",
        "return self._begun is not None and step - self._begun >= wait",
        "return self._begun is not None",
        ("tests/training/test_health.py::test_nothing_is_said_of_a_codebook_that_recovers",),
    ),
    Mutation(
        "health: what looks wrong is told over and over",
        "vqaudio/training/health.py",
        "self._told.update((cause, index) for index in new)",
        "pass",
        ("tests/training/test_health.py::test_a_collapse_is_told_once_until_it_has_gone",),
    ),
    Mutation(
        "report: spikes lost where long curves are thinned",
        "vqaudio/training/charts.py",
        "int(there[values[there].argmax()])",
        "int(there[-1])",
        ("tests/training/test_page.py::test_thinning_keeps_what_sticks_out",),
    ),
    Mutation(
        "layouts: a vocabulary one id short",
        "vqaudio/layouts/index_map.py",
        "return self.codes_end + len(SPECIALS) + len(self.extra_specials)",
        "return self.codes_end + len(SPECIALS) + len(self.extra_specials) - 1",
        (f"{LAYOUTS}::test_an_id_is_one_thing",),
    ),
    Mutation(
        "layouts: pad is code 0",
        "vqaudio/layouts/index_map.py",
        "    def pad_id(self) -> int:\n        return self.codes_end",
        "    def pad_id(self) -> int:\n        return self.first_id",
        (f"{LAYOUTS}::test_to_codes_is_the_inverse_of_to_tokens", f"{TABLES}::test_delay_is_that_of_musicgen"),
    ),
    Mutation(
        "layouts: offsets of the first codebook's size, whatever the others have",
        "vqaudio/layouts/flat.py",
        "return tuple(accumulate(sizes[:-1], initial=first))",
        "return tuple(first + place * sizes[0] for place in range(len(sizes)))",
        (f"{LAYOUTS}::test_an_id_is_one_thing",),
    ),
    Mutation(
        "layouts: a shorter last chunk laid out as a full one",
        "vqaudio/layouts/flat.py",
        "torch.clamp(num_frames - start, max=C)",
        "torch.full_like(start, C)",
        (f"{LAYOUTS}::test_every_code_stands_where_the_definition_puts_it",),
    ),
    Mutation(
        "layouts: an id past the codebook taken for a code",
        "vqaudio/layouts/reading.py",
        "in_range = (self.codes >= 0) & (self.codes < column(layout.codebook_sizes))",
        "in_range = (self.codes >= 0) & (self.codes <= column(layout.codebook_sizes))",
        (
            f"{LAYOUTS}::test_every_invalid_id_is_found_where_it_stands",
            f"{TABLES}::test_one_codebook_appended_to_a_text_vocabulary",
        ),
    ),
    Mutation(
        "layouts: a frame kept that is not complete",
        "vqaudio/layouts/reading.py",
        "return _first((self.steps >= first).any(dim=0))",
        "return _first((self.steps >= first).all(dim=0))",
        (f"{LAYOUTS}::test_a_sequence_cut_anywhere_gives_the_whole_frames_or_is_refused",),
    ),
    Mutation(
        "layouts: cut and clamped without a word",
        "vqaudio/layouts/layout.py",
        "            if reading.problems:\n                warnings.warn(reading.report, TokenWarning, stacklevel=2)\n",
        "",
        (f"{READING}::test_cut_keeps_whole_frames_and_says_where_it_cut",),
    ),
    Mutation(
        "layouts: what follows the end is not looked at",
        "vqaudio/layouts/reading.py",
        "    found += after\n",
        "",
        (f"{LAYOUTS}::test_padding_begin_and_end_are_left_out",),
    ),
    Mutation(
        "layouts: an end valid within a frame",
        "vqaudio/layouts/flat.py",
        "return step % self.num_codebooks == 0",
        "return True",
        (f"{LAYOUTS}::test_sampling_from_the_valid_ids_always_decodes",),
    ),
    Mutation(
        "layouts: padding counts in the loss",
        "vqaudio/layouts/batches.py",
        "return (tokens != layout.pad_id) & (tokens != layout.begin_id)",
        "return tokens != layout.begin_id",
        (f"{READING}::test_a_batch_says_what_is_padding_and_what_counts",),
    ),
    Mutation(
        "token spaces: the tokenizer is not compared",
        "vqaudio/layouts/space.py",
        '            "token_fingerprint": (self.token_fingerprint, tokenizer.token_fingerprint),\n',
        "",
        (f"{SPACE}::test_codes_of_another_tokenizer_are_refused",),
    ),
    Mutation(
        "token spaces: a file whose derived ids were altered is believed",
        "vqaudio/layouts/space.py",
        "if derived != space._derived():",
        "if derived is None:",
        (f"{SPACE}::test_an_altered_file_is_refused_by_name",),
    ),
    Mutation(
        "token files: a line that was lost holds up all after it",
        "vqaudio/cli/coding.py",
        "                writer.skip(numbers[task])\n",
        "",
        (f"{TOKEN_FILES}::test_a_bad_recording_costs_the_others_nothing",),
    ),
    Mutation(
        "report: text of a log taken for HTML",
        "vqaudio/training/page_tables.py",
        "return html.escape(str(value))",
        "return str(value)",
        ("tests/training/test_page.py::test_unknown_numbers_are_plotted_and_unknown_text_is_only_text",),
    ),
    Mutation(
        "report: a larger budget compared with what the reference has at its end",
        "vqaudio/training/curve.py",
        "place = step * reference_steps / run_steps if run_steps else step",
        "place = step",
        (
            "tests/training/test_curve.py::test_a_larger_budget_is_compared_at_equal_shares_and_a_smaller_one_at_equal_steps",
        ),
    ),
    Mutation(
        "tensorboard: steps that a resumed run takes back stay",
        "vqaudio/training/tensorboard.py",
        "if found.st_ino != self.place.inode or found.st_size < self.place.offset:",
        "if found.st_size < self.place.offset:",
        ("tests/training/test_tensorboard.py::test_a_resumed_run_takes_back_what_it_does_again",),
    ),
    Mutation(
        "speakers all weigh the same",
        "vqaudio/evaluation/statistics.py",
        "sums[picks].sum(axis=1) / counts[picks].sum(axis=1)",
        "(sums[picks] / counts[picks]).mean(axis=1)",
        (f"{EVALUATION}/test_statistics.py",),
    ),
    Mutation(
        "who fails on some recordings may replace who does not",
        "vqaudio/evaluation/compare.py",
        ' and not last[name]["lost"]',
        "",
        (f"{EVALUATION}/test_compare.py::test_who_fails_on_some_recordings_replaces_nobody",),
    ),
    Mutation(
        "edges of all codebooks beside a sound of fewer",
        "vqaudio/evaluation/unit.py",
        "number = decoded.point.codebooks",
        "number = None",
        (f"{EVALUATION}/test_evaluate.py::test_edges_are_those_of_the_codebooks_that_are_scored",),
    ),
    Mutation(
        "a settled difference needs the files' interval alone",
        "vqaudio/evaluation/compare.py",
        "known = [bound for bound in bounds if bound is not None]",
        "known = [bound for bound in bounds[:2] if bound is not None]",
        (f"{EVALUATION}/test_compare.py",),
    ),
    Mutation(
        "strangers pass for a pair",
        "vqaudio/evaluation/decoded.py",
        "MIN_ENVELOPE_CORRELATION = 0.5",
        "MIN_ENVELOPE_CORRELATION = -1.0",
        (f"{EVALUATION}/test_decoded.py",),
    ),
    Mutation(
        "late is told as early",
        "vqaudio/evaluation/decoded.py",
        "return best - longest if",
        "return longest - best if",
        (f"{EVALUATION}/test_decoded.py",),
    ),
    Mutation(
        "silence is scored",
        "vqaudio/evaluation/scoring.py",
        "        if silent:\n",
        "        if False:\n",
        (f"{EVALUATION}/test_rules.py",),
    ),
    Mutation(
        "another system under an old name keeps the old values",
        "vqaudio/evaluation/evaluate.py",
        "[system.about(), [point.name for point in system.points]]",
        "[]",
        (f"{EVALUATION}/test_evaluate.py",),
    ),
    Mutation(
        "a line that was cut off stays in the journal",
        "vqaudio/evaluation/journal.py",
        "file.truncate(whole)",
        "file.flush()",
        (f"{EVALUATION}/test_evaluate.py",),
    ),
    Mutation(
        "every point decodes all codebooks",
        "vqaudio/evaluation/model.py",
        "tokenizer.decode(codes.prefix(point.codebooks))",
        "tokenizer.decode(codes)",
        (f"{EVALUATION}/test_evaluate.py",),
    ),
    Mutation(
        "what transformers leaves undefined on loading is not made again",
        "vqaudio/hf/model.py",
        "        if module is self:",
        "        if False:",
        (f"{HF_MODEL}::test_codes_and_audio_of_a_loaded_model_are_those_of_the_tokenizer",),
    ),
    Mutation(
        "a codec in transformers cast to half",
        "vqaudio/hf/model.py",
        "return result if result.dtype == tensor.dtype else tensor.to(result.device)",
        "return result",
        (f"{HF_MODEL}::test_no_dtype_changes_a_code",),
    ),
    Mutation(
        "fingerprints of a folder of transformers not compared",
        "vqaudio/hf/model.py",
        "if getattr(said, field) not in (None, getattr(info, field)):",
        "if False:",
        (f"{HF_MODEL}::test_what_was_altered_is_refused",),
    ),
    Mutation(
        "padding coded as if it were audio",
        "vqaudio/hf/model.py",
        "audios = [row[start:stop] for",
        "audios = [row for",
        (f"{HF_MODEL}::test_what_the_mask_leaves_out_is_not_heard_whatever_it_holds",),
    ),
    Mutation(
        "audio codes added as special tokens",
        "vqaudio/hf/tokens.py",
        "normalized=False, special=False) for token in codes]",
        "normalized=False, special=True) for token in codes]",
        (f"{HF_TOKENS}::test_skipping_special_tokens_keeps_the_codes",),
    ),
    Mutation(
        "steps of every row counted from the prompt's end",
        "vqaudio/hf/logits.py",
        "torch.where(begins > ends, begins + 1, self.prompt_length)",
        "torch.where(begins > ends, self.prompt_length, self.prompt_length)",
        (f"{HF_LOGITS}::test_rows_that_go_on_from_different_places_all_decode",),
    ),
    Mutation(
        "a language model's bits are shared with ids that cannot come",
        "vqaudio/lm/model.py",
        "places[k], first : first + size]  # (N, V)",
        "places[k]]",
        (f"{LM}_model.py::test_the_probabilities_of_all_codes_at_a_place_sum_to_one",),
    ),
    Mutation(
        "windows of long recordings begin with nothing before them",
        "vqaudio/lm/model.py",
        "start = max(0, done - model.window // 2)",
        "start = done",
        (f"{LM}_model.py::test_long_recordings_are_read_in_windows_that_overlap_by_half",),
    ),
    Mutation(
        "any id may be drawn",
        "vqaudio/lm/sample.py",
        "draw(logits.masked_fill(~allowed, -torch.inf), sampling, generator)",
        "draw(logits, sampling, generator)",
        (f"{LM}_sample.py::test_whatever_is_drawn_decodes_and_begins_with_its_prompt",),
    ),
    Mutation(
        "a prompt is written over",
        "vqaudio/lm/sample.py",
        "torch.where(given[:, step], tokens[..., step], drawn)",
        "drawn",
        (f"{LM}_sample.py::test_a_prompt_stays_as_it_is",),
    ),
    Mutation(
        "samples are drawn from the generator of the process",
        "vqaudio/lm/sample.py",
        "1, generator=generator)",
        "1)",
        (f"{LM}_sample.py::test_one_seed_one_result",),
    ),
    Mutation(
        "an n-gram sees what it predicts",
        "vqaudio/lm/ngram.py",
        "[first, codes[:, :-1]]",
        "[first[:, :0], codes]",
        (f"{LM}_ngram.py::test_where_nothing_can_be_learnt_it_says_so",),
    ),
    Mutation(
        "a language model goes on with new moments",
        "vqaudio/lm/train.py",
        '        restore_moments(self.optimizer, load(files["optimizer.safetensors"]))\n',
        "",
        (f"{LM}_train.py::test_a_run_that_is_killed_goes_on_as_if_it_never_was",),
    ),
    Mutation(
        "intervals of a language model are over recordings",
        "vqaudio/lm/evaluate.py",
        "np.unique(list(speakers), return_inverse=True)",
        "np.unique(range(len(speakers)), return_inverse=True)",
        (f"{LM}_evaluate.py::test_differences_are_those_of_whole_speakers",),
    ),
    Mutation(
        "a batch is counted when the next one is wanted",
        "vqaudio/lm/sampler.py",
        "            self.taken += 1\n            yield batch",
        "            yield batch\n            self.taken += 1",
        (f"{LM}_sampler.py::test_resumed_equals_never_stopped",),
    ),
    Mutation(
        "windows of every epoch alike",
        "vqaudio/lm/dataset.py",
        "key = np.array([self.seed, _epoch(index)], dtype=np.uint64)",
        "key = np.array([self.seed, 0], dtype=np.uint64)",
        (f"{DATASETS}::test_an_epoch_of_windows_is_as_long_as_the_folder_and_each_is_another",),
    ),
    Mutation(
        "positions of packed items begin anew in each row",
        "vqaudio/lm/dataset.py",
        "positions.append(places)",
        "positions.append(places - places[0])",
        (f"{DATASETS}::test_packed_rows_hold_every_token_once",),
    ),
    Mutation(
        "audio before its text",
        "vqaudio/lm/dataset.py",
        'torch.cat([item["text_ids"], tokens])',
        'torch.cat([tokens, item["text_ids"]])',
        (f"{DATASETS}::test_text_ids_come_before_the_audio_and_below_its_ids",),
    ),
    Mutation(
        "a code file is not compared with its index",
        "vqaudio/lm/folder.py",
        "if found != listed:",
        "if False:",
        (f"{LM}_folder.py::test_a_file_that_is_not_what_the_index_says_is_named_when_read",),
    ),
    Mutation(
        "a code file that is there is taken for whole",
        "vqaudio/cli/indexing.py",
        "if _sha256(task.outputs[0]) != entry.sha256:",
        "if not task.outputs[0].exists():",
        (f"{ENCODE_FOLDER}::test_what_is_gone_damaged_or_of_another_source_is_made_again",),
    ),
    Mutation(
        "excerpts that begin elsewhere taken for the same",
        "vqaudio/cli/indexing.py",
        '"start": str(start),',
        '"start": "0",',
        (f"{ENCODE_FOLDER}::test_excerpts_are_told_apart",),
    ),
    Mutation(
        "what a killed run has left is not gone on with",
        "vqaudio/code_index.py",
        "        if path.is_file():\n            entries |=",
        "        if path.is_file() and not cut_off:\n            entries |=",
        (f"{ENCODE_FOLDER}::test_killed_and_run_again_is_never_killed",),
    ),
    Mutation(
        "all ids in two bytes",
        "vqaudio/lm/binary.py",
        'if space.vocab_size <= 2**16 else "<u4"',
        'if space.vocab_size <= 2**17 else "<u4"',
        (f"{LM}_binary.py::test_ids_get_the_room_they_need",),
    ),
    Mutation(
        "embeddings of the directions in which codes differ least",
        "vqaudio/lm/embeddings.py",
        "[1][:, -dim:]",
        "[1][:, :dim]",
        (f"{LM}_embeddings.py::test_a_narrow_table_keeps_most_neighbours",),
    ),
)


def copy_of_the_source(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(".*"), copy_function=_copy)
        else:
            shutil.copy(source, folder / name)


def _copy(source: str, target: str) -> None:
    """Weights, most of the bytes, are not mutated: a link will do."""
    if source.endswith(".safetensors"):
        os.symlink(source, target)
    else:
        shutil.copy2(source, target)


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int | None, str]:
    """pytest's exit code (None: it took too long) and what it printed; other tests of the copy are not run."""
    process = PROCESSES.Process(target=_pytest, args=(folder, tests))
    process.start()
    process.join(TIMEOUT_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code, (folder / OUTPUT_NAME).read_text(encoding="utf-8")


def _pytest(folder: Path, tests: tuple[str, ...]) -> None:
    """The whole life of one process: it imports the package from `folder`, which is a copy."""
    os.chdir(folder)
    sys.path[:] = [path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "tests")]
    with open(OUTPUT_NAME, "w", encoding="utf-8") as output, redirect_stdout(output), redirect_stderr(output):
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests])
    sys.exit(code)


def misplaced() -> list[str]:
    """A line for each mutation whose text is not in its file exactly once."""
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in {each.file for each in MUTATIONS}}
    wrong = [each for each in MUTATIONS if texts[each.file].count(each.old) != 1]
    return [f"not exactly once in {each.file}: {each.old!r}" for each in wrong]


def complaint(mutation: Mutation) -> str | None:
    """What is wrong with a mutation, or None if the tests noticed it."""
    with tempfile.TemporaryDirectory(prefix="vqaudio-mutation-") as name:
        folder = Path(name)
        copy_of_the_source(folder)
        path = folder / mutation.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        code, output = run_tests(folder, mutation.tests)
    if code == ALL_PASSED:
        return f"SURVIVED {', '.join(mutation.tests)}"
    if code != SOME_FAILED or "error" in output.splitlines()[-1]:
        return f"pytest ended with {code}, not with failures:\n{output}"
    return None


def some_of(mutations: list[Mutation], count: int) -> list[Mutation]:
    """`count` of them in order, chosen by the commit that is checked out: the same if run again."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    print(f"{count} of {len(mutations)} mutations, chosen by commit {commit}", flush=True)
    places = random.Random(commit).sample(range(len(mutations)), count)
    return [mutations[place] for place in sorted(places)]


def main(words: list[str]) -> int:
    count = None
    if words[:1] == ["--some"]:
        count, words = int(words[1]), words[2:]
    chosen = [each for each in MUTATIONS if all(word in f"{each.name} {each.file}" for word in words)]
    if lost := misplaced():
        print("\n".join(lost))
        return 1
    if count is not None:
        chosen = some_of(chosen, min(count, len(chosen)))
    if not chosen:
        print(f"no mutation is named {' '.join(words)}")
        return 1
    os.environ.update(OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    PROCESSES.set_forkserver_preload(PRELOADED)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vqaudio-unbroken-") as name:
        copy_of_the_source(Path(name))
        code, output = run_tests(Path(name), tuple(dict.fromkeys(test for each in chosen for test in each.tests)))
    if code != ALL_PASSED:
        print(f"the tests do not pass on the unbroken source, so their failing would prove nothing:\n{output}")
        return 1
    print(f"the tests pass on the unbroken source ({time.monotonic() - started:.0f} s)", flush=True)
    num_wrong = 0
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for mutation, wrong in zip(chosen, pool.map(complaint, chosen), strict=True):
            num_wrong += wrong is not None
            print(f"{'noticed' if wrong is None else 'WRONG  '}  {mutation.file}: {mutation.name}", flush=True)
            if wrong is not None:
                print(f"         {wrong}", flush=True)
    seconds = time.monotonic() - started
    print(f"{len(chosen) - num_wrong} of {len(chosen)} mutations noticed, {num_wrong} wrong, in {seconds:.0f} s")
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
