"""Models and tokenizers from folders, files and names, and prompts as tokens."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from mdtheory.checks import require_extra

Source = str | os.PathLike[str]
# A text, or the turns of a conversation as chat templates take them.
Prompt = str | Sequence[Mapping[str, str]]


def load_model(source: Source | Module, *, dtype: torch.dtype | None = None) -> Module:
    """A causal language model from a folder, a GGUF file, a name, or as it is.

    What is a path is read from the disk alone; a name is left to ``transformers``, which looks into
    its cache and, with a network, on the hub.

    Args:
        source: a folder of ``save_pretrained`` (a model's, or one of adapters), a ``.gguf`` file,
            a name, or a model.
        dtype: of its weights; float32 by default, for they are to be trained.

    Returns:
        The model, not training.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        FileNotFoundError: there is no such folder or file.
        TypeError: something else.
        ValueError: a folder without a model.
    """
    if isinstance(source, Module):
        return source.eval() if dtype is None else source.to(dtype).eval()
    place = model_path(source)
    transformers = require_extra("transformers", "llm")
    with no_bars():
        return _loaded(source, place, transformers.AutoModelForCausalLM, dtype or torch.float32)


def _loaded(source: Source, place: Path | None, auto: Any, kind: torch.dtype) -> Module:
    if place is None:
        found: Module = auto.from_pretrained(str(source), dtype=kind)
        return found.eval()
    if place.is_file():
        require_extra("gguf", "llm")
        read = auto.from_pretrained(
            str(place.parent), gguf_file=place.name, dtype=kind, local_files_only=True
        )
        # It would refuse to be saved: its config still says that it is quantised.
        if hasattr(read.config, "quantization_config"):
            del read.config.quantization_config
        model: Any = auto.from_config(read.config, dtype=kind)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        found = model
        return found.eval()
    if (place / "adapter_config.json").is_file():
        return _adapted(place, kind)
    found = auto.from_pretrained(str(place), dtype=kind, local_files_only=True)
    return found.eval()


@contextmanager
def no_bars() -> Iterator[None]:
    """Load and save without the bars of ``transformers``."""
    logging = require_extra("transformers", "llm").utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _adapted(place: Path, kind: torch.dtype) -> Module:
    """A model with its adapters, from the folder in which they were saved alone."""
    peft = require_extra("peft", "llm")
    said = json.loads((place / "adapter_config.json").read_text("utf-8"))
    base = load_model(said.get("base_model_name_or_path") or "", dtype=kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        found: Module = peft.PeftModel.from_pretrained(
            base, str(place), is_trainable=True, local_files_only=True
        )
    return found.eval()


def load_tokenizer(source: Source) -> Any:
    """The tokenizer that belongs to a model.

    Args:
        source: as in :func:`load_model`.

    Returns:
        A tokenizer of ``transformers``.

    Raises:
        ImportError: the extra ``llm`` is not installed.
        FileNotFoundError: there is no such folder or file.
        ValueError: there is no tokenizer beside the model.
    """
    place = local_path("tokenizer", source)
    auto = require_extra("transformers", "llm").AutoTokenizer
    if place is None:
        return auto.from_pretrained(str(source))
    try:
        if place.is_file():
            return auto.from_pretrained(
                str(place.parent), gguf_file=place.name, local_files_only=True
            )
        return auto.from_pretrained(str(place), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer: expected one in {place}, found none ({error})") from error


def model_path(source: object) -> Path | None:
    """Where on the disk a model is, or nothing if this is a name; nothing is read.

    Args:
        source: what came.

    Returns:
        The folder or file, or ``None``.

    Raises:
        FileNotFoundError: it looks like a path, and nothing is there.
        TypeError: neither a text nor a path.
        ValueError: a folder without a model.
    """
    place = local_path("model", source)
    if place is not None and place.is_dir():
        names = ("config.json", "adapter_config.json")
        if not any((place / name).is_file() for name in names):
            raise ValueError(f"model: expected a folder with a config.json, got {place}")
    return place


def local_path(name: str, source: object) -> Path | None:
    """Where on the disk a model is, or nothing if this is a name.

    Args:
        name: the argument's name, for messages.
        source: what came.

    Returns:
        The folder or file, or ``None``.

    Raises:
        FileNotFoundError: it looks like a path, and nothing is there.
        TypeError: neither a text nor a path.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"{name}: expected a folder, a file or a name, got {type(source).__name__}")
    text = os.fspath(source)
    place = Path(text).expanduser()
    if text and place.exists():
        return place
    looks = isinstance(source, os.PathLike) or text.startswith((".", "/", "~"))
    if looks or text.endswith(".gguf") or text.count("/") > 1 or "\\" in text or not text:
        raise FileNotFoundError(f"{name}: expected a folder or file that is there, got {text!r}")
    return None


class Prompts:
    """How prompts become tokens and answers become texts.

    Args:
        tokenizer: of ``transformers``.
        model: whose answers end as its generation config says.
        template: ``"auto"`` for the tokenizer's chat template where it has one; ``None`` for the
            texts as they are; or a text with ``{prompt}``.

    Raises:
        TypeError: a template of another kind.
        ValueError: a template without ``{prompt}``, or nothing that ends an answer.
    """

    def __init__(self, tokenizer: Any, model: Module, template: str | None = "auto") -> None:
        if template is not None and not isinstance(template, str):
            raise TypeError(f"template: expected a text or None, got {type(template).__name__}")
        if template not in (None, "auto") and "{prompt}" not in template:
            raise ValueError(f"template: expected a text with {{prompt}}, got {template!r}")
        if template == "auto" and not getattr(tokenizer, "chat_template", None):
            template = None
        self.tokenizer, self.template = tokenizer, template
        self.ends = ends_of(tokenizer, model)
        self._known: dict[tuple[str, bool], list[int]] = {}

    def text(self, prompt: Prompt) -> str:
        """The text that the model goes on from.

        Args:
            prompt: a text, or turns with ``role`` and ``content``.

        Returns:
            The text, control tokens of a chat among it.

        Raises:
            ValueError: turns for a tokenizer without a chat template.
        """
        if not isinstance(prompt, str):
            if not getattr(self.tokenizer, "chat_template", None):
                raise ValueError(
                    "prompts: expected texts, for the tokenizer has no chat template; got turns"
                )
            turns: Sequence[Mapping[str, str]] = prompt
        elif self.template is None:
            return prompt
        elif self.template != "auto":
            return self.template.replace("{prompt}", prompt)
        else:
            turns = [{"role": "user", "content": prompt}]
        return str(
            self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )

    def encode(self, prompts: Iterable[Prompt], device: torch.device) -> tuple[Tensor, Tensor]:
        """Prompts as tokens, with pads on the left.

        Args:
            prompts: at least one.
            device: where the tokens go.

        Returns:
            Tokens and mask, integers of shape ``(B, P)``.

        Raises:
            ValueError: a prompt without tokens.
        """
        rows = [self._row(prompt) for prompt in prompts]
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), longest), self.ends[0])
        mask = torch.zeros_like(tokens)
        for at, row in enumerate(rows):
            tokens[at, longest - len(row) :] = torch.tensor(row)
            mask[at, longest - len(row) :] = 1
        return tokens.to(device), mask.to(device)

    def _row(self, prompt: Prompt) -> list[int]:
        """The tokens of one prompt, looked up where it has come before."""
        text = self.text(prompt)
        # A template has set the tokens that begin a text, the tokenizer must not again.
        plain = isinstance(prompt, str) and self.template is None
        if (text, plain) not in self._known:
            row = self.tokenizer(text, add_special_tokens=plain)["input_ids"]
            if not row:
                raise ValueError(f"prompts: expected prompts of at least one token, got {prompt!r}")
            self._known[text, plain] = row
        return self._known[text, plain]

    def decode(self, answers: Tensor) -> list[str]:
        """Answers as texts, without control tokens.

        Args:
            answers: tokens, shape ``(rows, N)``.

        Returns:
            One text a row.
        """
        return [text.strip() for text in
                self.tokenizer.batch_decode(answers, skip_special_tokens=True)]  # fmt: skip


def ends_of(tokenizer: Any, model: Module) -> tuple[int, ...]:
    """Tokens that end an answer: those of the generation config, or the tokenizer's.

    Args:
        tokenizer: of ``transformers``.
        model: a causal language model.

    Returns:
        At least one token.

    Raises:
        ValueError: neither names one.
    """
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [said] if isinstance(said, int) else list(said or [])
    own = getattr(tokenizer, "eos_token_id", None)
    if own is not None and own not in found:
        found.append(own)
    if not found:
        raise ValueError("tokenizer: expected an end-of-sequence token, there and in the model")
    return tuple(found)


def adapters_off(model: Any) -> AbstractContextManager[Module]:
    """The model of ``peft`` without its adapters, as long as the context lasts."""
    return _Off(model)


class _Off(AbstractContextManager[Module]):
    """``disable_adapter`` of peft, without its survey of all layers: this is done every token."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> Module:
        self.model.base_model.disable_adapter_layers()
        return self.model

    def __exit__(self, *_: object) -> None:
        self.model.base_model.enable_adapter_layers()
