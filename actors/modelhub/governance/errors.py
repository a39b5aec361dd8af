"""What the registry refuses for the sake of what a model's owners asked."""

from __future__ import annotations

from aidos.errors import Conflict, NotFound


class AliasProtected(Conflict):
    title = "The alias is protected"
    detail = "'{alias}' of model '{model}' is protected, and {reference} lacks what it asks for: {reason}. 'aidos model show {reference}' says what is there."


class ProtectionKept(Conflict):
    title = "A protected alias stays"
    detail = "'{alias}' of model '{model}' is protected: it is moved, not deleted, and its model neither deleted nor renamed. An owner takes the protection away first."


class ProtectionNotFound(NotFound):
    title = "Alias is not protected"
    detail = "'{alias}' of model '{model}' is not protected. 'aidos model protections {model}' shows those that are."


class AliasMoved(Conflict):
    title = "The alias has moved"
    detail = "'{alias}' of model '{model}' names version {actual}, not {expected} (0 is none): look at what came since, and repeat."


class NoPreviousVersion(Conflict):
    title = "There is no version to go back to"
    detail = "'{alias}' of model '{model}' named no other version before. 'aidos model alias-moves {model} {alias}' shows its moves."


class ApprovalNotYours(Conflict):
    title = "Somebody else must approve"
    detail = "{reference} was registered by you, and is approved by somebody else. An owner may allow it: 'aidos model set-review-rules {model} --self-approval'."


class VersionDeprecated(Conflict):
    title = "Model version is deprecated"
    detail = "{told} Only what serves it already goes on. 'aidos model restore {model} {version}' takes the deprecation back."


class ReplacementInvalid(Conflict):
    title = "Not a replacement"
    detail = "Version {replacement} cannot replace {reference}: {reason}."
