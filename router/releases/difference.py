"""The difference of two releases in sentences, as a product manager reads it."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from router.policy.table import Policy, digest_of
from router.prompts.files import DEFAULT, read_prompts
from router.route.explain import rule_words

__all__ = ["differences"]

#: What is compared as a whole, by the depth at which it lies.
_WHOLE = {("rules", 2), ("formats", 2), ("models", 4), ("prompts", 3)}
#: What no request notices.
_SILENT = {"name", "version", "examples"}
_TIMES = "\N{MULTIPLICATION SIGN}"
_Path = tuple[str, ...]


def differences(
    before: Policy,
    after: Policy,
    prompts_before: Mapping[str, str],
    prompts_after: Mapping[str, str],
) -> list[str]:
    """What a release does otherwise than another, a sentence each; empty where nothing.

    The prompts are given by their files. Raises PromptError for prompts that cannot be read.
    """
    old, new = _content(before, prompts_before), _content(after, prompts_after)
    words = [_sentence(path, was, now) for path, was, now in _changes((), old, new)]
    kept = [name for name in old["rules"] if name in new["rules"]]
    order = [name for name in new["rules"] if name in old["rules"]]
    moved = [(now, was) for was, now in zip(kept, order, strict=True) if was != now]
    first = [f"rule {now} now comes before {was}: the first that fits wins" for now, was in moved]
    return words + first[:1]


def _content(policy: Policy, files: Mapping[str, str]) -> dict[str, Any]:
    """A release as nested tables; of a part of a prompt its version and its digest."""
    content = policy.model_dump(exclude=_SILENT)
    content["rules"] = {rule.name: rule_words(rule) for rule in policy.rules}
    for model in content["models"].values():
        price = model["price"]
        model["price"] = {kind: price[kind] for kind in price if kind not in ("source", "as_of")}
    content["prompts"] = {
        name: {
            "": (contract.version, digest_of(contract.model_dump(exclude={"version", "variants"}))),
            **{
                f" for {tier}": (version, digest_of(files[f"{name}/{tier}.j2"]))
                for tier, version in contract.variants.items()
            },
        }
        for name, contract in read_prompts(files)[0].items()
    }
    return content


def _changes(path: _Path, old: Any, new: Any) -> Iterator[tuple[_Path, Any, Any]]:
    if old == new:
        return
    is_table = isinstance(old, Mapping) and isinstance(new, Mapping)
    if not is_table or (path[:1] and (path[0], len(path)) in _WHOLE):
        yield path, old, new
        return
    for name in dict.fromkeys((*old, *new)):
        yield from _changes((*path, str(name)), old.get(name), new.get(name))


def _sentence(path: _Path, old: Any, new: Any) -> str:
    was, now = _words(old), _words(new)
    is_row = path[0] == "rules" or isinstance(old or new, (Mapping, tuple))
    change = f"is now {now} (was {was})"
    if is_row:
        change = "is gone" if new is None else "is new" if old is None else "has changed"
    match path:
        case ("tasks", task, "tier"):
            return f"{task} now starts at {now} (was {was})"
        case ("tasks", task, "escalation"):
            return f"{task} now climbs to {now} (was {was})"
        case ("models", name, "price", kind) if old and new:
            factor = f"{_TIMES}{float(Decimal(new) / Decimal(old)):.3g}"
            return f"price of {name} {factor}: {_name(kind)} ${now} per million tokens (was ${was})"
        case ("rules", name) if new is not None:
            return f"rule {name} {'is new' if old is None else 'now says'}: {new}"
        case ("prompts", name, *parts):
            if old and new and old[0] != new[0]:
                change = f"is now version {new[0]} (was {old[0]})"
            kind = "default prompt" if name == DEFAULT else f"prompt of {name}"
            return f"the {kind}{''.join(parts)} {change}"
        case (kind, name) if is_row:
            return f"{kind.removesuffix('s')} {name} {change}"
        case (kind, *rest, field):
            what = " ".join((kind.removesuffix("s"), *rest)) if rest else kind
            return f"{what}: {_name(field)} {change}"
        case _:
            return f"{path[0]} {change}"


def _name(field: str) -> str:
    return field.replace("_", " ")


def _words(value: Any) -> str:
    """A value of a policy as people write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_words(field)}" for name, field in value.items()) or "nothing"
    if isinstance(value, (list, tuple)):
        return ", then ".join(map(_words, value)) or "nothing"
    if isinstance(value, timedelta):
        return str(value)
    return "nothing" if value is None else str(value)
