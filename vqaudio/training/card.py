"""The card of a trained model: what it is, where it comes from, how well it does. Markdown from the run's own facts."""

from typing import Any


def write_card(name: str, about: dict[str, Any]) -> str:
    """The card for `about` as `train` fills it; facts that a run cannot know are not in it."""
    codec = about["recipe"]["codec"]
    data = about["data"]
    lines = [
        f"# {name}",
        "",
        f"An audio tokenizer made by the recipe `{name}` of vqaudio, for audio at {codec['sample_rate']} Hz.",
        "",
        *_descent(about.get("parent")),
        "## Training",
        f"- steps: {about['steps']:,} ({about['training_seconds'] / 60:.0f} minutes on {about['hardware']})",
        f"- skipped batches: {about['skipped_batches']}",
        f"- audio: {data['seconds'] / 3600:.2f} hours",
        "",
        "| licence of the training audio | minutes |",
        "|---|--:|",
        *(f"| {licence or 'not stated'} | {seconds / 60:.1f} |" for licence, seconds in data["licences"].items()),
        "",
        "## Validation",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_text(value)} |" for key, value in about["validation"].items()),
        "",
    ]
    return "\n".join(lines)


def _descent(parent: dict[str, Any] | None) -> list[str]:
    """Where it comes from, and whether it reads the codes of that."""
    if parent is None:
        return []
    taken = f"It is a fine-tune of `{parent['name']}` (model fingerprint `{parent['model_fingerprint'][:12]}…`"
    if "steps" in parent:
        taken += f", {parent['steps']:,} steps"
    return [f"{taken}), of which it took over: {', '.join(parent['parts'])}.", ""]


def _text(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
