-- changes: what differs between two published versions of one dataset, as stored when the later one was published.
--
-- dataset       VARCHAR  full name under which the versions were published
-- old_version, new_version BIGINT  numbers of the versions; null for one that was taken away
-- rows_added, rows_removed, rows_changed BIGINT  rows by what happened to them, matched by the key
-- columns       JSON     object: changed rows per column that changed anywhere
-- key           JSON     list: the columns that rows were matched by
-- has_keys      BOOLEAN  whether the keys of these rows were stored too: not of more than 5,000,000
-- old_table_version, new_table_version BIGINT  Delta's version numbers
-- at            TIMESTAMP WITH TIME ZONE  when it was stored
-- dataset_id    VARCHAR  the dataset's identity
--
-- Nothing is stored of a first version, nor where a row that differs has no key, or shares it.
with version as (
    select
        value ->> 'dataset_id' as dataset_id,
        cast(value ->> 'table_version' as bigint) as table_version,
        min(value ->> 'full_name') as full_name,
        min(cast(value ->> 'number' as bigint)) as number
    from lake.ledger_state
    where entity = 'version'
    group by all
), dataset as (
    select value ->> 'dataset_id' as id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
)
select
    coalesce(d.full_name, n.full_name, o.full_name) as dataset,
    o.number as old_version,
    n.number as new_version,
    c.rows_added,
    c.rows_removed,
    c.rows_changed,
    cast(c."columns" as json) as columns,
    cast(c."key" as json) as key,
    c.keys_uri is not null as has_keys,
    c.old_version as old_table_version,
    c.new_version as new_table_version,
    c."at",
    c.dataset_id
from lake.fact_changes c
left join version o on o.dataset_id = c.dataset_id and o.table_version = c.old_version
left join dataset d on d.id = c.dataset_id
left join version n on n.dataset_id = c.dataset_id and n.table_version = c.new_version
order by dataset, new_table_version, old_table_version
