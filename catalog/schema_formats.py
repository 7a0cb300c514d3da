"""A schema however it is given - Arrow, JSON Schema, a Pydantic model, YAML - and how it is written out again.

YAML, and the same as JSON:

    columns:
      - {name: id, type: int64, nullable: false, semantic: id}
      - {name: price, type: "decimal(10, 2)", unit: EUR, description: what was paid}
    key: [id]
    compatibility: BACKWARD     # NONE, BACKWARD or FULL
    misfits: block              # block or flag
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, get_args

import pyarrow as pa

from catalog.json_schema import from_json_schema, to_json_schema
from lakehouse.decisions import Column, Compatibility, Dataset, Misfits, SchemaVersion
from lakehouse.errors import InvalidInputError, missing_extra, suggest
from lakehouse.registry import arrow_schema, columns_of
from lakehouse.schema import plain_schema

FORMATS = ("yaml", "json-schema", "arrow")
"""What `write_schema` writes."""
_JSON_SCHEMA = {"properties", "$schema", "$defs", "$ref", "type"}
"""Keys that make a mapping a JSON Schema."""
_KEYS = ("columns", "key", "compatibility", "misfits")
_COLUMN = ("name", "type", "nullable", "description", "unit", "semantic")


@dataclass(frozen=True, slots=True)
class SchemaSpec:
    """A schema as somebody gave it; None where nothing was said."""

    columns: tuple[Column, ...]
    key: tuple[str, ...] | None = None
    compatibility: Compatibility | None = None
    misfits: Misfits | None = None

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([f.remove_metadata() for f in arrow_schema(self.columns)])

    def first(self, dataset: Dataset, actor: str) -> SchemaVersion:
        """Return what is given as the first schema version of a dataset, which brings the key along."""
        return SchemaVersion(
            dataset_id=dataset.dataset_id,
            number=1,
            columns=self.columns,
            key_columns=dataset.key_columns,
            compatibility=self.compatibility or "BACKWARD",
            misfits=self.misfits or "block",
            created_at=dataset.created_at,
            created_by=actor,
        )


SchemaLike: TypeAlias = SchemaSpec | pa.Schema | Mapping[str, Any] | Sequence[Any] | type | str | Path
"""An Arrow schema, a JSON Schema or the YAML form as loaded, a Pydantic model, or where one of these is found."""


def read_schema(given: SchemaLike) -> SchemaSpec:
    """Return the schema that is given in any form.

    Args:
        given: An Arrow schema, with `description`, `unit` and `semantic` in the metadata of its fields; a JSON Schema or
            the form above as dicts and lists; a Pydantic model; or the path of a file: `.yaml`, `.json`, `.parquet`,
            `.arrow`, or `package.module:Model` for a Pydantic model.
    Raises:
        InvalidInputError: it can't be read, or says something that no schema has (schema-invalid); type-unknown;
            duplicate-column, schema-case-conflict, unsupported-type, as `schema.plain_schema`; a package is not
            installed (extra-missing).
    """
    if isinstance(given, SchemaSpec):
        schema = arrow_schema(given.columns)
        plain_schema(schema)  # refuses what no table has
        return replace(given, columns=columns_of(schema))
    if isinstance(given, (str, Path)):
        return _from_file(given)
    if isinstance(given, pa.Schema):
        return _spec(given)
    if hasattr(given, "model_json_schema"):
        return _from_json_schema(given.model_json_schema())
    if isinstance(given, Mapping) and given.keys() & _JSON_SCHEMA:
        return _from_json_schema(given)
    if isinstance(given, (Mapping, Sequence)):
        return _from_entries(given)
    raise InvalidInputError(
        "schema-invalid",
        f"A schema can't be made of {type(given).__name__}. Give an Arrow schema, a JSON Schema, a Pydantic model or a file.",
    )


def write_schema(schema: SchemaVersion, format: str, title: str = "") -> bytes:
    """Return a schema version as the content of a file that `read_schema` reads.

    Args:
        format: yaml, json-schema, or arrow (an Arrow IPC stream without rows).
        title: The dataset's name, for a JSON Schema.
    Raises:
        InvalidInputError: another format (format-unknown).
    """
    if format == "json-schema":
        return (
            json.dumps(to_json_schema(schema.columns, schema.key_columns, title), indent=2, ensure_ascii=False) + "\n"
        ).encode()
    if format == "arrow":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, arrow_schema(schema.columns)):
            pass
        return bytes(sink.getvalue().to_pybytes())
    if format == "yaml":
        import yaml

        text: str = yaml.safe_dump(entries(schema), sort_keys=False, allow_unicode=True, default_flow_style=None)
        return text.encode()
    raise InvalidInputError("format-unknown", f"{format!r} is no format. Known are: {', '.join(FORMATS)}.")


def entries(schema: SchemaVersion) -> dict[str, Any]:
    """Return a schema version in the form that YAML files have."""
    columns = [{k: v for k, v in asdict(c).items() if v not in ("", True)} for c in schema.columns]
    rules = {"compatibility": schema.compatibility, "misfits": schema.misfits}
    return {"columns": columns, "key": list(schema.key_columns), **rules}


def _from_file(given: str | Path) -> SchemaSpec:
    import yaml

    path = Path(given)
    kind = path.suffix.lower()
    if isinstance(given, str) and ":" in given and not path.exists():
        return _from_model(given)
    try:
        if kind in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            return _spec(pq.read_schema(path))
        if kind in (".arrow", ".arrows", ".feather", ".ipc"):
            return _spec(_ipc_schema(path))
        text = path.read_text(encoding="utf-8")
        loaded = yaml.safe_load(text) if kind in (".yaml", ".yml") else json.loads(text)
    except OSError as error:
        raise _invalid(f"{path} can't be read: {error.strerror or 'not in its format'}") from error
    except InvalidInputError:
        raise
    except (pa.ArrowException, yaml.YAMLError, ValueError) as error:
        form = kind.removeprefix(".") or "JSON"
        raise _invalid(f"{path} can't be read as {form} ({_place(error) or type(error).__name__})") from error
    if not isinstance(loaded, (Mapping, list)):
        raise _invalid(f"{path} holds no JSON Schema and no list of {{name, type, nullable}}")
    return read_schema(loaded)


def _place(error: Exception) -> str:
    """Return where a text is broken, as line and column from 1; empty when the error does not say."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    mark = getattr(error, "problem_mark", None)  # of a YAMLError
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"


def _ipc_schema(path: Path) -> pa.Schema:
    with pa.OSFile(str(path)) as file:
        try:
            return pa.ipc.open_file(file).schema
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.ipc.open_stream(file).schema


def _from_model(given: str) -> SchemaSpec:
    module, _, name = given.partition(":")
    try:
        model = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name == "pydantic":
            raise missing_extra("pydantic", "api") from error
        raise _invalid(f"there is no file {given} and no module {module!r}") from error
    except (AttributeError, ValueError) as error:
        raise _invalid(f"the module {module!r} has no {name!r}") from error
    if not hasattr(model, "model_json_schema"):
        raise _invalid(f"{given} is no Pydantic model")
    return read_schema(model)


def _from_json_schema(given: Mapping[str, Any]) -> SchemaSpec:
    columns, key = from_json_schema(given)
    return _spec(arrow_schema(columns), key or None)


def _from_entries(given: Mapping[str, Any] | Sequence[Any]) -> SchemaSpec:
    said: Mapping[str, Any] = given if isinstance(given, Mapping) else {"columns": given}
    # `lakehouse show --output json` is a schema too: there the columns are called so, and the other words are not ours.
    own = "columns" in said or "schema" not in said
    unknown = sorted(map(str, said.keys() - set(_KEYS))) if own else []
    if unknown:
        known = f"Known are {', '.join(_KEYS)}; a JSON Schema has properties"
        raise _invalid(f"it says {unknown[0]!r}, which no schema has.{suggest(unknown[0], set(_KEYS))} {known}")
    listed = said.get("columns" if own else "schema")
    if not isinstance(listed, (list, tuple)):
        raise _invalid("its columns are no list of {name, type, nullable}")
    columns = tuple(_column(entry, number) for number, entry in enumerate(listed, 1))
    if not columns:
        raise _invalid("it has no columns")
    if not own:
        return _spec(arrow_schema(columns))
    key = said.get("key")
    if key is not None and not (isinstance(key, list) and all(isinstance(k, str) for k in key)):
        raise _invalid("its key is no list of column names")
    return _spec(
        arrow_schema(columns),
        None if key is None else tuple(key),
        one_of(said.get("compatibility"), get_args(Compatibility), "compatibility"),
        one_of(said.get("misfits"), get_args(Misfits), "misfits"),
    )


def _column(entry: Any, number: int) -> Column:
    if not isinstance(entry, Mapping):
        raise _invalid(f"column {number} is no {{name, type, nullable}}")
    name, kind, nullable = entry.get("name"), entry.get("type"), entry.get("nullable", True)
    if not isinstance(name, str):
        raise _invalid(f"column {number} has no name")
    if not isinstance(kind, str):
        raise _invalid(f"column {name!r} has no type, such as int64")
    if not isinstance(nullable, bool):
        raise _invalid(f"column {name!r} says nullable: {nullable!r}, which is neither true nor false")
    unknown = entry.keys() - set(_COLUMN)
    if unknown:
        close = suggest(str(min(unknown)), set(_COLUMN))
        raise _invalid(f"column {name!r} says {min(unknown)!r}, which no column has.{close}")
    words = {k: str(entry.get(k) or "") for k in _COLUMN[3:]}
    return Column(name=name, type=kind, nullable=nullable, **words)


def one_of(value: Any, known: Sequence[str], what: str) -> Any:
    """Return a word if it is one of those known, or None.

    Raises:
        InvalidInputError: it is another (schema-invalid).
    """
    if value is not None and value not in known:
        raise _invalid(f"{what} {value!r} is not known; known are {', '.join(known)}")
    return value


def _spec(
    schema: pa.Schema,
    key: tuple[str, ...] | None = None,
    compatibility: Compatibility | None = None,
    misfits: Misfits | None = None,
) -> SchemaSpec:
    fields = [p.with_metadata(f.metadata) for p, f in zip(plain_schema(schema), schema, strict=True)]
    return SchemaSpec(columns_of(pa.schema(fields)), key, compatibility, misfits)


def _invalid(what: str) -> InvalidInputError:
    return InvalidInputError(
        "schema-invalid", f"The schema can't be used: {what}" + ("" if what.endswith((".", "?")) else ".")
    )
