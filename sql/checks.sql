-- checks: the rules that the states of each dataset must satisfy, one row each.
--
-- dataset     VARCHAR    full name of the dataset
-- name        VARCHAR    unique within the dataset, ignoring case
-- kind        VARCHAR    not_null, unique, foreign_key, ...: docs/checks.md tells all
-- columns     VARCHAR[]  what it looks at
-- parameters  JSON       object: what else its owner configured
-- severity    VARCHAR    error: what fails is not published; warning: it is only told
-- in_file     BOOLEAN    whether a declaration file named it
-- created_at  TIMESTAMP WITH TIME ZONE
-- created_by  VARCHAR
-- dataset_id  VARCHAR    the dataset's identity
with definition as (
    select unnest(from_json(value, '{
        "dataset_id": "VARCHAR", "name": "VARCHAR", "kind": "VARCHAR", "columns": ["VARCHAR"], "parameters": "JSON",
        "severity": "VARCHAR", "in_file": "BOOLEAN", "created_at": "TIMESTAMPTZ", "created_by": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'check'
),
dataset as (
    select value ->> 'dataset_id' as id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
)
select
    d.full_name as dataset,
    c.name,
    c.kind,
    c."columns",
    c.parameters,
    c.severity,
    c.in_file,
    c.created_at,
    c.created_by,
    c.dataset_id
from definition c
left join dataset d on d.id = c.dataset_id
order by dataset, lower(c.name)
