-- milestone_datasets: the datasets of every milestone version, one row each, in the milestone's order.
--
-- milestone         VARCHAR  full name of the milestone
-- milestone_version BIGINT   its number
-- dataset           VARCHAR  full name of the member when it was published
-- version           BIGINT   the member's published version; null when it has none yet
-- table_version     BIGINT   Delta's version number of that state
-- data_tag          VARCHAR  the member's data tag; null without a version
-- dataset_id        VARCHAR  the member's identity; null without a version
-- ready             BOOLEAN  true for all members of a published version; false for one that a pending version waits for
with published as (
    select
        value ->> 'full_name' as milestone,
        cast(value ->> 'number' as bigint) as milestone_version,
        from_json(value -> 'members', '[{
            "dataset_id": "VARCHAR", "full_name": "VARCHAR", "table_version": "BIGINT", "version": "BIGINT",
            "data_tag": "VARCHAR"}]') as members
    from lake.ledger_state
    where entity = 'milestone_version'
), pending as (
    select
        value ->> 'full_name' as milestone,
        cast(value ->> 'number' as bigint) as milestone_version,
        from_json(value -> 'members', '[{
            "dataset_id": "VARCHAR", "full_name": "VARCHAR", "table_version": "BIGINT", "version": "BIGINT",
            "data_tag": "VARCHAR"}]') as members,
        from_json(value -> 'waiting' -> '$[*].dataset', '["VARCHAR"]') as waiting
    from lake.ledger_state
    where entity = 'milestone_pending'
), defined as (
    select value ->> 'full_name' as milestone, from_json(value -> 'members', '["VARCHAR"]') as names
    from lake.ledger_state
    where entity = 'milestone'
), awaited as (
    select d.milestone, p.milestone_version, unnest(d.names) as dataset, generate_subscripts(d.names, 1) as position,
        p.members, [lower(w) for w in p.waiting] as waiting
    from defined d
    join pending p on lower(p.milestone) = lower(d.milestone)
), member as (
    select milestone, milestone_version, unnest(members) as m, generate_subscripts(members, 1) as position,
        null as dataset, true as ready
    from published
    union all
    select milestone, milestone_version, list_filter(members, lambda m: lower(m.full_name) = lower(dataset))[1] as m,
        position, dataset, m is not null and not list_contains(waiting, lower(dataset)) as ready
    from awaited
)
select
    milestone,
    milestone_version,
    coalesce(m.full_name, dataset) as dataset,
    m.version,
    m.table_version,
    m.data_tag,
    m.dataset_id,
    ready
from member
order by milestone, milestone_version, position
