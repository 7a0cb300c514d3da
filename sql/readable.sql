-- readable: every pinned state and what the last verifications found of it, one row for each state.
--
-- dataset       VARCHAR    full name when it was pinned
-- dataset_id    VARCHAR    the dataset's identity
-- table_version BIGINT     Delta's version number of the state
-- pinned_by     VARCHAR[]  what pins it, as in the view `pins`
-- status        VARCHAR    readable, damaged, or unverified: no `lakehouse verify` has looked at it yet
-- verified_at   TIMESTAMP WITH TIME ZONE  when the verification looked that the status rests on; null when unverified
-- deep          BOOLEAN    whether it read all bytes
-- files, bytes  BIGINT     data files of the state
-- problems      JSON       object {kind: how many}; null when there are none
--
-- The newest verification counts; what a deep one found stays until another deep one no longer finds it.
with state as (
    select dataset_id, table_version, max(dataset) as dataset, list(pinned_by order by pinned_by) as pinned_by
    from lake.pins
    group by dataset_id, table_version
), newest as (
    select
        dataset_id,
        table_version,
        arg_max(v, v."at") as newest,
        arg_max(v, v."at") filter (where v.deep) as newest_deep
    from lake.fact_verifications v
    group by dataset_id, table_version
), decisive as (
    select
        dataset_id,
        table_version,
        case when newest.ok and not newest_deep.ok then newest_deep else newest end as v
    from newest
)
select
    s.dataset,
    s.dataset_id,
    s.table_version,
    s.pinned_by,
    case when d.v is null then 'unverified' when d.v.ok then 'readable' else 'damaged' end as status,
    d.v."at" as verified_at,
    d.v.deep as deep,
    d.v.files as files,
    d.v.bytes as bytes,
    cast(d.v.problems as json) as problems
from state s
left join decisive d using (dataset_id, table_version)
order by dataset, table_version
