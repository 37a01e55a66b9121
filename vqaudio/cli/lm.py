"""vqaudio lm train, sample and evaluate: a language model over codes."""

import json
from argparse import Namespace

from vqaudio.cli.coding import CODES_EXTENSION, UsageError
from vqaudio.cli.reporting import note, say
from vqaudio.io import write_aside


def lm_train(options: Namespace) -> int:
    """A recipe and a folder of codes -> a model."""
    # Here and below, because coding files must not load what trains, nor transformers.
    from vqaudio.lm.config import load_lm_recipe
    from vqaudio.lm.train import train_lm
    from vqaudio.training.stopping import RunFailedError, RunStoppedError

    given = {name: getattr(options, name) for name in ("tokenizer", "num_codebooks", "layout", "steps", "seed")}
    named = {name: json.dumps(value) for name, value in given.items() if value is not None}
    recipe = load_lm_recipe(options.recipe, options.overrides | named)
    try:
        model = train_lm(recipe, options.codes, options.out, resume=options.resume, device=options.device)
    except RunStoppedError as stopped:
        note(f"vqaudio: {stopped}")
        return 128 + stopped.signal_number  # as a shell says it of a process that a signal has ended
    except (RunFailedError, ImportError) as failed:
        note(f"vqaudio: {failed}")
        return 1
    say(f"the model is in {model}")
    return 0


def lm_sample(options: Namespace) -> int:
    """New speech, as code files and as WAV; with how fast it was written."""
    from vqaudio.lm.model import load_lm
    from vqaudio.lm.sample import Sampling
    from vqaudio.lm.speech import prompt_codes, write_speech
    from vqaudio.tokenizer import AudioTokenizer

    if options.prompt is None and options.prompt_seconds is not None:
        raise UsageError("--prompt-seconds goes with --prompt")
    sampling = Sampling(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, seed=options.seed)
    try:
        found = load_lm(options.model, device=options.device)
    except ImportError as error:
        raise ValueError(str(error)) from error
    tokenizer = AudioTokenizer.from_pretrained(options.tokenizer or found.tokenizer)
    found.model.space.check_codes_of(tokenizer)
    prompt = None
    if options.prompt is not None:
        prompt = prompt_codes(options.prompt, tokenizer, found.model.space, seconds=float(options.prompt_seconds or 3))
    options.out.mkdir(parents=True, exist_ok=True)
    result = write_speech(
        found.model,
        tokenizer,
        options.out,
        seconds=float(options.seconds),
        num_items=options.count,
        prompt=prompt,
        sampling=sampling,
    )
    rate = result.times_real_time(found.model.space.frame_rate)
    say(f"{result.tokens_per_second:.0f} tokens per second, {rate:.2f} times real time")
    say(f"{options.count} sample{'s' * (options.count > 1)}, .wav and {CODES_EXTENSION}, are in {options.out}")
    return 0


def lm_evaluate(options: Namespace) -> int:
    """Bits per second beside an n-gram's, and how samples sound beside reconstructions."""
    from vqaudio.lm.evaluate import evaluate_lm, summary_lines
    from vqaudio.lm.sample import Sampling

    sampling = Sampling(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, seed=options.seed)
    try:
        result = evaluate_lm(
            options.model,
            options.codes,
            split=options.split,
            num_samples=options.samples,
            seconds=float(options.seconds),
            prompt_seconds=float(options.prompt_seconds),
            sampling=sampling,
            tokenizer=options.tokenizer,
            clips=options.clips,
            device=options.device,
        )
    except ImportError as error:
        raise ValueError(str(error)) from error
    with write_aside(options.out) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    say("\n".join(summary_lines(result)))
    say(f"results are in {options.out}")
    return 0
