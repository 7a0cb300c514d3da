-- retention: the retention policies, one row each: which published versions `expire` leaves alone when it is given no rules.
--
-- scope      VARCHAR    what the policy is about: full name of the dataset as it is now, or `vision.*` for a namespace
-- namespace  VARCHAR    the namespace, or that of the dataset
-- keep_last  BIGINT     how many of the newest versions stay; null: this keeps none
-- keep_for   VARCHAR    the span within which published versions stay, as `90d`; null: this keeps none
-- keep_tags  VARCHAR[]  data tags whose versions stay; empty when there is none
-- created_at TIMESTAMP WITH TIME ZONE  when it was set
-- created_by VARCHAR    who set it
-- A dataset's own policy stands in place of its namespace's; a version that any rule keeps stays.
with policy as (
    select unnest(from_json(value, '{
        "namespace": "VARCHAR", "series": "VARCHAR", "keep_last": "BIGINT", "keep_for": "VARCHAR",
        "keep_tags": ["VARCHAR"], "created_at": "TIMESTAMPTZ", "created_by": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'retention'
),
name as (
    select value ->> 'series' as series, value ->> 'full_name' as full_name
    from lake.ledger_state
    where entity = 'name' and value ->> 'alias_of' is null
)
select
    coalesce(n.full_name, lower(p.namespace) || '.*') as scope,
    p.namespace,
    p.keep_last,
    p.keep_for,
    p.keep_tags,
    p.created_at,
    p.created_by
from policy p
left join name n on n.series = p.series
order by lower(scope)
