-- milestone_datasets: the datasets of every milestone version, one row each, in the milestone's order.
--
-- milestone         VARCHAR  full name of the milestone
-- milestone_version BIGINT   its number
-- dataset           VARCHAR  full name of the member when it was published
-- version           BIGINT   the member's published version; null when a state without one is pinned
-- table_version     BIGINT   Delta's version number of the pinned state
-- data_tag          VARCHAR  the member's data tag; null without a version
-- dataset_id        VARCHAR  the member's identity
-- ready             BOOLEAN  whether a state of the member is pinned: true for all members once it is published
with version as (
    select
        value ->> 'full_name' as milestone,
        cast(value ->> 'number' as bigint) as milestone_version,
        from_json(value -> 'members', '[{
            "dataset_id": "VARCHAR", "full_name": "VARCHAR", "table_version": "BIGINT", "version": "BIGINT",
            "data_tag": "VARCHAR"}]') as members
    from lake.ledger_state
    where entity = 'milestone_version'
), member as (
    select milestone, milestone_version, unnest(members) as m, generate_subscripts(members, 1) as position
    from version
)
select
    milestone,
    milestone_version,
    m.full_name as dataset,
    m.version,
    m.table_version,
    m.data_tag,
    m.dataset_id,
    m.table_version is not null as ready
from member
order by milestone, milestone_version, position
