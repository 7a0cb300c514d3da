-- pins: what keeps which table versions readable, one row for each state and each thing that pins it.
-- Expired versions, snapshots and leases, and archived milestone versions pin nothing.
--
-- dataset_id    VARCHAR  the dataset's identity
-- dataset       VARCHAR  its full name when it was pinned
-- table_version BIGINT   Delta's version number of the pinned state
-- pinned_by     VARCHAR  `main.photos@v3`, `milestone main.spring/v2`, `snap:run-20-nov` or `lease ...` with its name
-- kind          VARCHAR  version, milestone, snapshot or lease: what a running reader or job holds
-- expires_at    TIMESTAMP WITH TIME ZONE  when the pin ends; null: never
with snapshot as (
    select
        value ->> 'name' as name,
        cast(value ->> 'expires_at' as timestamptz) as expires_at,
        unnest(from_json(value -> 'members', '[{
            "dataset_id": "VARCHAR", "full_name": "VARCHAR", "table_version": "BIGINT"}]')) as m
    from lake.ledger_state
    where entity = 'snapshot'
), lease as (
    select
        value ->> 'name' as name,
        cast(value ->> 'expires_at' as timestamptz) as expires_at,
        unnest(from_json(value -> 'members', '[{
            "dataset_id": "VARCHAR", "full_name": "VARCHAR", "table_version": "BIGINT"}]')) as m
    from lake.ledger_state
    where entity = 'lease'
)
select
    dataset_id,
    dataset,
    table_version,
    dataset || '@v' || version as pinned_by,
    'version' as kind,
    cast(null as timestamptz) as expires_at
from lake.versions
where expired_at is null
union all
select d.dataset_id, d.dataset, d.table_version, 'milestone ' || milestone || '/v' || m.version, 'milestone', null
from lake.milestones m
join lake.milestone_datasets d using (milestone)
where d.milestone_version = m.version and d.ready and m.status <> 'Archived'
union all
select m.dataset_id, m.full_name, m.table_version, 'snap:' || name, 'snapshot', expires_at
from snapshot
where expires_at is null or expires_at > now()
union all
select m.dataset_id, m.full_name, m.table_version, 'lease ' || name, 'lease', expires_at
from lease
where expires_at > now()
order by dataset, table_version, pinned_by
