-- milestones: every version of every milestone, one row each, and the version that it gets next while it is awaited.
--
-- milestone    VARCHAR  full name
-- version      BIGINT   its number: 2 for `spring/v2`; null for a milestone without any version
-- status       VARCHAR  Pending: something is missing; Ready: somebody publishes it by hand; Published; Archived
-- data_tag     VARCHAR  the data tag that all members share; null while they differ
-- attribute    VARCHAR  what the data tag means to consumers (IS_FINAL); null without a shared data tag
-- color        VARCHAR  its colour; null as above
-- published_at TIMESTAMP WITH TIME ZONE  null while it is awaited
-- published_by VARCHAR
-- message      VARCHAR  the publisher's words; '' when there are none
-- members      BIGINT   number of datasets
-- waiting      VARCHAR[]  what is missing, a sentence each; empty when nothing is
-- since        TIMESTAMP WITH TIME ZONE  when it began to wait; null for a published one
with milestone as (
    select unnest(from_json(value, '{"full_name": "VARCHAR", "members": ["VARCHAR"]}'))
    from lake.ledger_state
    where entity = 'milestone'
), version as (
    select unnest(from_json(value, '{
        "full_name": "VARCHAR", "number": "BIGINT", "status": "VARCHAR", "data_tag": "VARCHAR", "members": ["JSON"],
        "published_at": "TIMESTAMPTZ", "published_by": "VARCHAR", "message": "VARCHAR",
        "waiting": [{"detail": "VARCHAR"}], "since": "TIMESTAMPTZ"}'))
    from lake.ledger_state
    where entity in ('milestone_version', 'milestone_pending')
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
    if(v.published_at is null, len(m.members), len(v.members)) as members,
    coalesce([w.detail for w in v.waiting], []) as waiting,
    v.since
from milestone m
left join version v on lower(v.full_name) = lower(m.full_name)
left join data_tag t on lower(t.name) = lower(v.data_tag)
order by milestone, version
