-- metadata: what people noted about datasets under names of their own, one row each.
--
-- dataset    VARCHAR  full name of the dataset
-- name       VARCHAR  the name of the note, as last written
-- value      VARCHAR
-- created_at TIMESTAMP WITH TIME ZONE  when it got this value
-- created_by VARCHAR  who gave it
-- dataset_id VARCHAR  the dataset's identity
with metadata as (
    select unnest(from_json(value, '{
        "dataset_id": "VARCHAR", "name": "VARCHAR", "value": "VARCHAR", "created_at": "TIMESTAMPTZ",
        "created_by": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'metadata'
),
dataset as (
    select unnest(from_json(value, '{"dataset_id": "VARCHAR", "namespace": "VARCHAR", "name": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'dataset'
)
select d.namespace || '.' || d.name as dataset, m.name, m.value, m.created_at, m.created_by, m.dataset_id
from metadata m
join dataset d on d.dataset_id = m.dataset_id
order by dataset, m.dataset_id, lower(m.name)
