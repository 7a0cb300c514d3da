-- milestones: every version of every milestone, one row each; a milestone without a version has one row with nulls.
--
-- milestone    VARCHAR  full name
-- version      BIGINT   its number: 2 for `spring/v2`
-- status       VARCHAR  Pending, Ready, Published or Archived
-- data_tag     VARCHAR  the data tag that all members share; null when they differ
-- attribute    VARCHAR  what the data tag means to consumers (IS_FINAL); null without a shared data tag
-- color        VARCHAR  its colour; null as above
-- published_at TIMESTAMP WITH TIME ZONE
-- published_by VARCHAR
-- message      VARCHAR  the publisher's words; '' when there are none
-- members      BIGINT   number of datasets
with milestone as (
    select unnest(from_json(value, '{"full_name": "VARCHAR", "members": ["VARCHAR"]}'))
    from lake.ledger_state
    where entity = 'milestone'
), version as (
    select unnest(from_json(value, '{
        "full_name": "VARCHAR", "number": "BIGINT", "status": "VARCHAR", "data_tag": "VARCHAR", "members": ["JSON"],
        "published_at": "TIMESTAMPTZ", "published_by": "VARCHAR", "message": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'milestone_version'
), data_tag as (
    select unnest(from_json(value, '{"name": "VARCHAR", "attribute": "VARCHAR", "color": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'data_tag'
)
select
    m.full_name as milestone,
    v.number as version,
    coalesce(v.status, 'Pending') as status,
    v.data_tag,
    t.attribute,
    t.color,
    v.published_at,
    v.published_by,
    v.message,
    coalesce(len(v.members), len(m.members)) as members
from milestone m
left join version v on lower(v.full_name) = lower(m.full_name)
left join data_tag t on lower(t.name) = lower(v.data_tag)
order by milestone, version
