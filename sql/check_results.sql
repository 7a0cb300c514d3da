-- check_results: what checks found of states, newest first; one row for each check, table version and versions of what
-- else the check read.
--
-- dataset       VARCHAR  full name of the dataset
-- table_version BIGINT   Delta's version number of the state
-- version       BIGINT   number of the newest version published of it; null for none
-- name          VARCHAR  the check, as it was called then
-- kind          VARCHAR
-- severity      VARCHAR  as it was then: error or warning
-- ok            BOOLEAN
-- failures      BIGINT   what fails: rows; of unique values, of class_balance classes, of schema columns
-- rows          BIGINT   rows of the state
-- finding       VARCHAR  why the state could not be judged, which counts as a failure; null otherwise
-- method        VARCHAR  what was looked at: all rows, those that changed since another result, or none (unchanged)
-- samples       JSON     list: up to 100 of what fails
-- ok_until      TIMESTAMP WITH TIME ZONE  of freshness: when the state stops to pass
-- started_at, finished_at TIMESTAMP WITH TIME ZONE
-- inputs        JSON     list of the other states that it read: [dataset id, table version]
-- dataset_id    VARCHAR  the dataset's identity
with dataset as (
    select value ->> 'dataset_id' as id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
),
version as (
    select
        value ->> 'dataset_id' as dataset_id,
        cast(value ->> 'table_version' as bigint) as table_version,
        max(cast(value ->> 'number' as bigint)) as number
    from lake.ledger_state
    where entity = 'version' and value ->> 'expired_at' is null
    group by all
),
sample as (
    select result, to_json(list(cast(sample as json) order by position)) as samples
    from lake.fact_check_samples
    group by result
)
select
    d.full_name as dataset,
    r.table_version,
    v.number as version,
    r.name,
    r.kind,
    r.severity,
    r.ok,
    r.failures,
    r."rows",
    r.finding,
    r.method,
    coalesce(s.samples, cast('[]' as json)) as samples,
    r.ok_until,
    r.started_at,
    r.finished_at,
    cast(r.inputs as json) as inputs,
    r.dataset_id
from lake.fact_check_results r
left join dataset d on d.id = r.dataset_id
left join version v using (dataset_id, table_version)
left join sample s using (result)
order by r.finished_at desc, dataset, lower(r.name)
