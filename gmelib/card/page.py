"""A model card as a page of Markdown, from the content of model_card.json alone."""

from collections.abc import Mapping
from typing import Any

from gmelib.data.faceset import SPLITS
from gmelib.wording import markdown, percent


def markdown_of(card: Mapping[str, Any]) -> str:
    """MODEL_CARD.md, from model_card.json's content alone."""
    weights, revision = card["weights"], card["revision"]["commit"]
    data = card["data"]
    parts = [
        f"# Model card: {card['model']}, {data['name']}",
        f"> **{card['warning']}**" if card["warning"] else "",
        f"Run `{card['run']}`, by code revision `{(revision or 'unknown')[:8]}`. "
        + (f"`{weights['file']}`: {weights['bytes']:,} bytes, SHA-256 `{weights['sha256']}`. "
           if weights else "Its weights are not here. ")
        + "Made by `python -m gmelib.card` from run.json.",
        f"## Input and output\n\n{card['input']}\n\nGives a probability for each of: "
        f"{', '.join(card['classes'])}. {card['complexity']['parameters']:,} parameters, "
        f"{card['complexity']['macs']:,} multiply-accumulates a face.",
        f"## Data\n\n{data['name']}, fingerprint `{data['fingerprint']}`.\n\n{_counts(card)}",
        f"## Figures\n\nOf the test faces, per cent, with 95 % bootstrap intervals.\n\n"
        f"{_figures(card)}",
        f"## Training\n\n{_training_text(card)}",
        f"## Limits\n\n{_bullets(card['limits'])}",
        f"## Intended use\n\n{_bullets(card['intended_use'])}",
        f"## Not to be used for\n\n{_bullets(card['misuse'])}",
        f"## Licence of the data\n\n{card['licence']}",
        f"## Citation\n\n{card['citation']}",
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _counts(card: Mapping[str, Any]) -> str:
    counts = card["data"]["counts"]

    def line(name: str, number: Any) -> dict[str, str]:
        return {"class": name} | {split: f"{number(counts.get(split, {})):,}" for split in SPLITS}

    lines = [line(name, lambda of, name=name: of.get(name, 0)) for name in card["classes"]]
    return markdown([*lines, line("all", lambda of: sum(of.values()))])


def _figures(card: Mapping[str, Any]) -> str:
    everything, clean = card["metrics"]["all"], card["metrics"].get("without_duplicates") or {}

    def shown_of(figure: Mapping[str, Any] | None) -> str:
        if not figure or figure["value"] is None:
            return ""
        return percent(figure["value"], figure["low"], figure["high"], digits=2)

    return markdown(
        {
            "metric": name.replace("_", " "),
            "all test faces": shown_of(figure),
            "faces": f"{figure['n']:,}",
            "without copies": shown_of(clean.get(name)),
        }
        for name, figure in everything.items()
    )


def _training_text(card: Mapping[str, Any]) -> str:
    told = card["training"]
    preset, budget, selection = told["preset"], told["budget"], told["selection"]
    teacher = (told["distillation"] or {}).get("teacher")
    sentences = [
        f"{preset['epochs']} epochs in batches of {preset['batch_size']}, seed {preset['seed']}, "
        f"{told['faces']:,} training faces, {told['hours']:.2f} hours on "
        f"{'; '.join(told['devices'])} ({', '.join(told['precision'])}).",
        f"{budget['presentations']:,} presentations of faces." if budget else "",
        f"Distilled from `{teacher}`." if teacher else "From random weights, not distilled.",
        f"The epoch is number {selection['epoch']}, by {selection['by']}." if selection else "",
        f"Best validation accuracy {told['validation']['best_accuracy']:.2%}.",
    ]
    return " ".join(filter(None, sentences))
