-- grants: which role was granted to whom on what, one row each.
-- Where access is controlled, these are one's own, and those of scopes that one is an admin of.
--
-- principal  VARCHAR  whose it is
-- role       VARCHAR  reader, writer, publisher or admin; each may also do what those before it may
-- scope      VARCHAR  * for the lakehouse, vision.* for a namespace, vision.photos for a dataset
-- created_at TIMESTAMP WITH TIME ZONE  when it was granted
-- created_by VARCHAR  who granted it
with granted as (
    select unnest(from_json(value, '{
        "principal": "VARCHAR", "role": "VARCHAR", "namespace": "VARCHAR", "series": "VARCHAR",
        "created_at": "TIMESTAMPTZ", "created_by": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'grant'
), name as (
    -- A renamed dataset has one name that is no alias of another.
    select value ->> 'series' as series, value ->> 'full_name' as full_name
    from lake.ledger_state
    where entity = 'name' and value ->> 'alias_of' is null
)
select
    g.principal,
    g.role,
    case when g.series is not null then n.full_name when g.namespace = '*' then '*' else g.namespace || '.*' end as scope,
    g.created_at,
    g.created_by
from granted g
left join name n on n.series = g.series
order by g.principal, scope
