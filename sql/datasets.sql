-- datasets: every dataset, one row each; a dropped one keeps its row, with deleted_at set.
--
-- dataset         VARCHAR      full name, `namespace.name`, as first written
-- namespace, name VARCHAR      its parts
-- dataset_id      VARCHAR      identity: stays when the dataset is renamed, differs when it is made again
-- kind            VARCHAR      table, assets or features
-- key_columns     VARCHAR[]    columns that identify a row; empty when there is no key
-- parent          VARCHAR      full name of the dataset that it is derived from; null when there is none
-- guarantee       VARCHAR      own, or external: others may delete files of its table
-- location        VARCHAR      key of its Delta table under the root, or the full URI of an adopted one
-- owner, license, description VARCHAR  as entered; '' when not
-- aliases         VARCHAR[]    former names that still mean it
-- latest_version  BIGINT       version that `@latest` means, of this dataset or another of its name; null when none was published
-- created_at, deleted_at TIMESTAMP WITH TIME ZONE
with dataset as (
    select unnest(from_json(value, '{
        "dataset_id": "VARCHAR", "namespace": "VARCHAR", "name": "VARCHAR", "location": "VARCHAR", "kind": "VARCHAR",
        "key_columns": ["VARCHAR"], "guarantee": "VARCHAR", "parent": "VARCHAR", "description": "VARCHAR",
        "owner": "VARCHAR", "license": "VARCHAR", "created_at": "TIMESTAMPTZ", "deleted_at": "TIMESTAMPTZ"}'))
    from lake.ledger_state
    where entity = 'dataset' and value ->> 'copy_of' is null -- copies of an adopted one's versions have no name
), numbering as (
    select
        name.key as folded,
        coalesce(
            max(cast(version.value ->> 'number' as bigint)) filter (
                where not coalesce(cast(version.value ->> 'withdrawn' as boolean), false)
                and version.value ->> 'expired_at' is null),
            max(cast(version.value ->> 'number' as bigint))) as latest_version
    from lake.ledger_state name
    join lake.ledger_state version
        on version.entity = 'version' and version.value ->> 'series' = name.value ->> 'series'
    where name.entity = 'name'
    group by all
), alias as (
    select lower(value ->> 'alias_of') as folded, list(value ->> 'full_name' order by value ->> 'full_name') as aliases
    from lake.ledger_state
    where entity = 'name' and value ->> 'alias_of' is not null
    group by all
)
select
    d.namespace || '.' || d.name as dataset,
    d.namespace,
    d.name,
    d.dataset_id,
    d.kind,
    d.key_columns,
    p.namespace || '.' || p.name as parent,
    d.guarantee,
    d.location,
    d.owner,
    d.license,
    d.description,
    coalesce(a.aliases, []) as aliases,
    n.latest_version,
    d.created_at,
    d.deleted_at
from dataset d
left join dataset p on p.dataset_id = d.parent
left join alias a on a.folded = lower(d.namespace || '.' || d.name)
left join numbering n on n.folded = lower(d.namespace || '.' || d.name)
order by dataset, d.created_at
