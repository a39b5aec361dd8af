"""Secrets out of what a run keeps of its surroundings: by the name that they stand behind, and by the shapes that tokens have."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"

_NAME = re.compile(
    r"(?:^|_)(?:pass|passw(?:or)?d|passphrase|pwd|secret|token|credentials?|auth|authorization|bearer|(?:api|access|secret|private|account)_?key)\d*$"
)
_SHAPES = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | (?<=://)[^/\s:@]*:[^/\s@]+(?=@)                              # user:password@ in a URL
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                                # AWS
    | \bgh[opsur]_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,} | \bglpat-[\w-]{20,}
    | \bhf_[A-Za-z0-9]{20,} | \bsk-[\w-]{20,} | \bxox[abeoprs]-[\w-]{10,} | \bnpm_[A-Za-z0-9]{30,} | \bAIza[\w-]{30,}
    | \baidos_(?:live|refresh|invite)_\w+
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*                            # JSON Web Token
    | (?<=[Bb]earer\ )[\w.~+/-]{8,}=*
    """,
    re.VERBOSE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"""([A-Za-z][\w.-]*)(["']?\s*(?:=>|:=|==?|:)\s*)("[^"\n]*"|'[^'\n]*'|[^\s"'`,;#()\[\]{}]+)""")
_NO_SECRETS = {"none", "null", "nil", "true", "false", "str", "bytes", ""}


def is_secret(name: str) -> bool:
    """Whether what stands behind such a name is a secret: ``--db-password``, ``HF_TOKEN``, ``apiKey``, not ``max_tokens``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-.]", "_", name.strip("-")).lower()
    return bool(_NAME.search(words))


def redact(text: str) -> str:
    """The text with ``***`` in the place of each secret."""
    return _ASSIGNMENT.sub(_hide, _SHAPES.sub(HIDDEN, text))


def redact_command(words: Sequence[str]) -> list[str]:
    """A command line; the word behind ``--password`` is one too."""
    shown, behind_name = [], False
    for word in words:
        shown.append(HIDDEN if behind_name and not word.startswith("-") else redact(word))
        behind_name = word.startswith("-") and "=" not in word and is_secret(word)
    return shown


def _hide(found: re.Match[str]) -> str:
    name, sign, value = found.groups()
    quote = value[0] if value[0] in "\"'" else ""
    if not is_secret(name) or value.strip("\"'").lower() in _NO_SECRETS:
        return found[0]
    return f"{name}{sign}{quote}{HIDDEN}{quote}"
