"""Names of models. The engine says its own (see tiers.py); it understands the names of the service's models.

An index keeps the names it was created with: they decide which family's requests it takes and how the
visual option of its vectors is called.
"""

from __future__ import annotations

from typing import Any

from tl_data.local import tokens
from tl_data.local.errors import APIProblem, invalid, not_provided, one_of
from tl_data.local.tiers import Tiers, is_own

MARENGO = ("marengo3.0", "marengo2.7", "Marengo-retrieval-2.7")
PEGASUS = ("pegasus1.2", "pegasus1.5", "pegasus1.6", "pegasus1")
OLD_MARENGO = ("marengo2.7", "Marengo-retrieval-2.7")
INDEX_MODELS = ("marengo3.0", "marengo2.7", "pegasus1.2", "pegasus1.5")
EMBED_MODELS = ("marengo3.0", "Marengo-retrieval-2.7", "marengo2.7")
OPTIONS = ("visual", "audio")
OLD_TOKENS, TOKENS, PROMPT_TOKENS = 77, 500, 2000


def read_models(value: Any, tiers: Tiers) -> list[dict[str, Any]]:
    """Check the `models` of a new index; answers them as they are stored.

    Raises:
        APIProblem: missing, malformed, unknown names or options.
    """
    if value is None:
        raise not_provided("models")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid("models", "It must be an array of objects with model_name and model_options.", value)
    if not 1 <= len(value) <= 2:
        raise invalid("models", f"It must hold one or two models, but holds {len(value)}.")
    models: list[dict[str, Any]] = []
    known = tuple(dict.fromkeys((tiers.search_model, tiers.analyze_model, *INDEX_MODELS)))
    for item in value:
        name, options = item.get("model_name"), item.get("model_options")
        if not isinstance(name, str) or not name:
            raise not_provided("model_name") if name is None else one_of("model_name", known, name)
        if name not in known:
            raise one_of("model_name", known, name)
        if options is None:
            raise not_provided("model_options")
        if not isinstance(options, list) or not options or any(option not in OPTIONS for option in options):
            raise one_of("model_options", OPTIONS, options)
        if any(name == model["model_name"] for model in models):
            raise invalid("models", f"The model {name} is named twice.")
        models.append({"model_name": name, "model_options": list(dict.fromkeys(options))})
    return models


def shown_models(
    models: list[dict[str, Any]], tiers: Tiers, looked_by: str | None = None
) -> list[dict[str, Any]]:
    """The models of an index as it answers: the engine's own name, and the name it was asked for by.

    `looked_by` is the model that looked at its videos, if that is another than the one at work.
    """

    def own(name: str) -> str:
        if name in PEGASUS or name == tiers.analyze_model != tiers.search_model:
            return tiers.analyze_model
        return looked_by or tiers.search_model

    return [
        model | {"model_name": own(model["model_name"]), "requested_as": model["model_name"]}
        for model in models
    ]


def searches(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the Marengo family, or the engine's own: what search and vectors need."""
    return [m for m in models if m["model_name"] in MARENGO or is_own(m["model_name"])]


def generates(models: list[dict[str, Any]]) -> bool:
    """Whether text may be generated: the Pegasus family, or the engine's own model."""
    return any(model["model_name"] in PEGASUS or is_own(model["model_name"]) for model in models)


def search_options(models: list[dict[str, Any]]) -> list[str]:
    """What an index can be searched by; speech apart from other sound since Marengo 3.0."""
    options: list[str] = []
    for model in searches(models):
        options += model["model_options"]
        if "audio" in model["model_options"] and model["model_name"] not in OLD_MARENGO:
            options.append("transcription")
    return list(dict.fromkeys(options))


def embedding_options(models: list[dict[str, Any]]) -> list[str]:
    """The vectors an index holds, by the names of its model's generation."""
    old = any(model["model_name"] in OLD_MARENGO for model in models)
    return ["visual-text" if old and option == "visual" else option for option in search_options(models)]


def same_option(option: str) -> str:
    """`visual` for both of its names: samples for new models still ask for `visual-text`."""
    return "visual" if option == "visual-text" else option


def embed_options(name: str) -> tuple[str, ...]:
    """The kinds of vectors a video has under an embedding model."""
    return ("visual-text", "audio") if name in OLD_MARENGO else ("visual", "audio", "transcription")


def token_limit(name: str) -> int:
    """The longest text in tokens that a model takes."""
    return OLD_TOKENS if name in OLD_MARENGO else TOKENS


def check_embed_model(name: str, tiers: Tiers) -> str:
    """The name of a model that makes vectors.

    Raises:
        APIProblem: it is none.
    """
    if name not in (known := (tiers.search_model, *EMBED_MODELS)):
        raise one_of("model_name", known, name)
    return name


def too_long(parameter: str, text: str, limit: int) -> APIProblem:
    """400 for a text of too many tokens."""
    explanation = f"The text token length should be less than or equal to {limit}."
    return invalid(parameter, f"{explanation} You sent {tokens.count(text)} tokens.")


def no_search() -> APIProblem:
    """400 for a search in an index without a model that searches."""
    return APIProblem(
        400,
        "index_not_supported_for_search",
        "You can only perform search requests on indexes with an engine from the Marengo family enabled.",
    )


def no_generate() -> APIProblem:
    """400 for text generation in an index without a model that writes."""
    return APIProblem(
        400,
        "index_not_supported_for_generate",
        "You can only summarize videos uploaded to an index with an engine from the Pegasus family enabled.",
    )
