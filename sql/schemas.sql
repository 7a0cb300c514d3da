-- schemas: the registered schema versions of the datasets, one row for each column of each.
--
-- dataset       VARCHAR  full name of the dataset
-- schema_number BIGINT   the schema version: 2 for `s2`
-- position      BIGINT   place of the column, the first is 1
-- column_name   VARCHAR
-- type          VARCHAR  its type, as Arrow names it
-- nullable      BOOLEAN  whether null is allowed
-- in_key        BOOLEAN  whether it is a column of the dataset's key
-- description   VARCHAR  what its values are; '' when nobody said
-- unit          VARCHAR  their unit: cm, EUR; '' for none
-- semantic      VARCHAR  their kind: id, label, text, image, pii:email, ...; '' when nobody said
-- newest        BOOLEAN  whether it is the newest registered version
-- compatibility VARCHAR  which changes are allowed since: NONE, BACKWARD, FULL
-- misfits       VARCHAR  what an ingest does with values that don't fit: block, flag
-- message       VARCHAR  the words of who changed it; '' when there are none
-- created_at    TIMESTAMP WITH TIME ZONE  since when
-- created_by    VARCHAR  who changed it
-- dataset_id    VARCHAR  the dataset's identity
with version as (
    select unnest(from_json(value, '{
        "dataset_id": "VARCHAR", "number": "BIGINT", "key_columns": ["VARCHAR"], "compatibility": "VARCHAR",
        "misfits": "VARCHAR", "message": "VARCHAR", "created_at": "TIMESTAMPTZ", "created_by": "VARCHAR",
        "columns": [{"name": "VARCHAR", "type": "VARCHAR", "nullable": "BOOLEAN", "description": "VARCHAR",
            "unit": "VARCHAR", "semantic": "VARCHAR"}]}'))
    from lake.ledger_state
    where entity = 'schema'
),
dataset as (
    select unnest(from_json(value, '{"dataset_id": "VARCHAR", "namespace": "VARCHAR", "name": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'dataset'
),
placed as (
    select *, unnest(columns) as col, generate_subscripts(columns, 1) as position
    from version
)
select
    d.namespace || '.' || d.name as dataset,
    p.number as schema_number,
    p.position,
    p.col.name as column_name,
    p.col.type as type,
    p.col.nullable as nullable,
    list_contains(p.key_columns, p.col.name) as in_key,
    p.col.description as description,
    p.col.unit as unit,
    p.col.semantic as semantic,
    p.number = max(p.number) over (partition by p.dataset_id) as newest,
    p.compatibility,
    p.misfits,
    p.message,
    p.created_at,
    p.created_by,
    p.dataset_id
from placed p
join dataset d on d.dataset_id = p.dataset_id
order by dataset, p.dataset_id, schema_number, position
