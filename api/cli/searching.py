"""Command: `lakehouse dataset search`."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Any

import typer

import catalog
from api.cli.call import call_of
from api.cli.command import command, commands, open_lake
from api.cli.output import Column, note, plural, print_json, print_rows, tally, words
from catalog.search import Hit, SearchResult

_SHOWN_VALUES = 4
"""Values of a facet, and texts of a field, that a table has room for."""
app = commands()


@command(
    app,
    "search",
    example="dataset search photo lab --namespace vision --data-tag FINAL",
    python='catalog.search(lake, "photo lab", namespace="vision", data_tag="FINAL")',
)
def search(
    ctx: typer.Context,
    text: Annotated[list[str] | None, typer.Argument(metavar="[WORD]...", help="Words, or how words begin.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    license: Annotated[str | None, typer.Option(help="Only under this licence.")] = None,
    data_tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only with such a published version.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this movable tag.")] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME", help="Only with a column of this name.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only table, assets or features.")] = None,
    limit: Annotated[int, typer.Option("-n", min=1, help="How many at most.")] = 20,
) -> None:
    """Find datasets by words in names, columns, tags, descriptions, owners, licences, metadata.

    Every word must be found, as a whole word or as the beginning of one. Without words everything that the options let
    through is found.
    """
    found = catalog.search(
        open_lake(ctx),
        " ".join(text or ()),
        namespace=namespace,
        owner=owner,
        license=license,
        data_tag=data_tag,
        tag=tag,
        kind=kind,
        column=column,
        limit=limit,
    )
    if call_of(ctx).json:
        print_json(_json(found))
        return
    columns = [Column("dataset"), Column("found in"), Column("kind"), Column("owner"), Column("description")]
    near = f" Did you mean {' or '.join(repr(word) for word in found.suggestions)}?" if found.suggestions else ""
    empty = f"No dataset was found.{near} List them with: lakehouse dataset list"
    rows = [_hit_json(hit) | {"found in": _found_in(hit)} for hit in found.hits]
    print_rows(call_of(ctx), rows, columns, empty=empty)
    if found.hits:
        more = f", {len(found.hits)} shown" if found.total > len(found.hits) else ""
        note(f"{plural(found.total, 'dataset')}{more}{_facets(found)}")


def _json(found: SearchResult) -> dict[str, Any]:
    return {
        "total": found.total,
        "hits": [_hit_json(hit) for hit in found.hits],
        "facets": found.facets,
        "suggestions": found.suggestions,
    }


def _hit_json(hit: Hit) -> dict[str, Any]:
    own = hit.dataset
    return {
        "dataset": own.full_name,
        "score": hit.score,
        "matched": [{"field": m.field, "text": m.text} for m in hit.matched],
        "kind": own.kind,
        "owner": own.owner,
        "license": own.license,
        "description": own.description,
    }


def _found_in(hit: Hit) -> str:
    """Return where the words were found: `name; column label, label_id`."""
    parts = []
    for field, matches in groupby(hit.matched, lambda match: match.field):
        texts = [match.text for match in matches]
        more = f" and {len(texts) - _SHOWN_VALUES} more" if len(texts) > _SHOWN_VALUES else ""
        parts.append(field if field == "name" else f"{field.replace('_', ' ')} {words(texts[:_SHOWN_VALUES])}{more}")
    return "; ".join(parts)


def _facets(found: SearchResult) -> str:
    """Return the facets that tell datasets apart, in a line."""
    said = ""
    for facet, counts in found.facets.items():
        if len(counts) > 1:
            said += f"; {facet.replace('_', ' ')}: {tally(dict(list(counts.items())[:_SHOWN_VALUES]))}"
    return said
