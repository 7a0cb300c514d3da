-- decisions: everything that was ever decided, one row for each decision, newest first: who changed what, and what it was.
--
-- at        TIMESTAMP WITH TIME ZONE  when it was decided
-- actor     VARCHAR  who decided
-- action    VARCHAR  dataset.create, version.publish, ...
-- resource  VARCHAR  what it is about, by the name that it has now: main.photos, main.photos@v3, main.spring/v2, snap:run-20
-- entity    VARCHAR  what kind of thing it is: dataset, version, tag, milestone, ...
-- before    JSON     the thing before the decision; null: it was not there, or the words were erased
-- after     JSON     the thing since; null: it was removed, or the words were erased
-- run       VARCHAR  the run that decided; null when a person did
-- message   VARCHAR  the words given with the decision; null when there are none
-- commit_id VARCHAR  what was decided together has the same
-- seq       BIGINT   number of the ledger commit
-- position  BIGINT   order within that commit
with decision as (
    select *, lag(value) over (partition by entity, key order by seq, pos) as "before"
    from lake.ledger_log
), told as (
    select *, coalesce(value, "before") as said
    from decision
), dataset as (
    select value ->> 'dataset_id' as dataset_id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
), series as (
    select value ->> 'series' as series, any_value(value ->> 'full_name') as full_name
    from lake.ledger_state
    where entity = 'name' and value ->> 'series' <> '' and value ->> 'alias_of' is null
    group by all
), named as (
    select t.*, coalesce(d.full_name, s.full_name, said ->> 'full_name') as thing
    from told t
    left join dataset d on d.dataset_id = said ->> 'dataset_id'
    left join series s on s.series = said ->> 'series'
)
select
    "at",
    actor,
    action,
    coalesce(case entity
        when 'version' then thing || '@v' || (said ->> 'number')
        when 'tag' then thing || '@' || (said ->> 'name')
        when 'milestone_version' then thing || '/v' || (said ->> 'number')
        when 'snapshot' then 'snap:' || (said ->> 'name')
        else coalesce(thing, said ->> 'name', said ->> 'namespace')
    end, key) as resource,
    entity,
    cast("before" as json) as "before",
    cast(value as json) as "after",
    run,
    message,
    commit_id,
    seq,
    cast(pos as bigint) as position
from named
order by seq desc, position desc
