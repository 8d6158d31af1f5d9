"""`tierline prices check`: the policy's prices beside a public table of prices."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import typer

from consumers import clock
from consumers.amounts import counted
from consumers.cli.common import FAILED, OK, AsJson, read_settings
from consumers.cli.terminal import console, print_json, print_table
from consumers.policy_file import read_policy
from router.policy.table import Model

__all__ = ["app"]

app = typer.Typer(
    help="Compare the policy's prices with a public table of prices.", no_args_is_help=True
)

_PRICES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
_UNKNOWN = "not known"


@app.callback()
def options() -> None:
    """Compare the policy's prices with a public table of prices."""


@app.command()
def check(as_json: AsJson = False) -> None:
    """Compare prices with those of genai-prices, changing none; exit with 1 if any differs."""
    models, now = read_policy(read_settings(needs_kafka=False)).models, clock.now()
    rows = [row for name, model in models.items() for row in _differences(name, model, now)]
    differing = [row for row in rows if row["theirs"] != _UNKNOWN]
    if as_json:
        print_json(rows)
    else:
        if rows:
            print_table(rows, tuple(rows[0]))
        agreed = len(models) - len({row["model"] for row in rows})
        unknown = counted(len(rows) - len(differing), "model")
        console().print(
            f"{counted(agreed, 'model')} as there, {counted(len(differing), 'price')} differing, "
            f"{unknown} not known there"
        )
    raise typer.Exit(FAILED if differing else OK)


def _differences(name: str, model: Model, now: datetime) -> Iterator[dict[str, str]]:
    """The prices of a model that differ, in dollars for a million tokens."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  large, and an extra

    row = {"model": name, "id": model.id}
    for provider in (model.provider, None):  # ours may have another name there
        try:
            seller, known = get_snapshot().find_provider_model(model.id, None, provider, None)
            break
        except LookupError:
            continue
    else:
        yield {**row, "price": "", "ours": "", "theirs": _UNKNOWN, "source": ""}
        return
    for price in _PRICES:
        listed = getattr(known.get_prices(now), f"{price}_mtok")
        # Where long inputs cost more, the price of short ones counts.
        theirs, ours = getattr(listed, "base", listed), _ours(model, price)
        if theirs not in (None, ours):
            source = (seller.pricing_urls or [seller.name])[0]
            yield {
                **row,
                "price": price,
                "ours": f"{ours}",
                "theirs": f"{theirs}",
                "source": source,
            }


def _ours(model: Model, name: str) -> Decimal:
    """A price of the policy: None is that of input, and for an hour in the cache twice that."""
    price: Decimal | None = getattr(model.price, name)
    return model.price.input * (2 if name == "cache_write_1h" else 1) if price is None else price
