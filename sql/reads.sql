-- reads: who opened which state, newest first; one row for the openings of a state by one process within a minute.
-- A name in SQL that a dataset answers to counts as read. What the lakehouse reads for itself does not.
--
-- at            TIMESTAMP WITH TIME ZONE  when it was opened first
-- actor         VARCHAR  who read
-- consumer      VARCHAR  what read: $LAKEHOUSE_CONSUMER, else the name of the program
-- dataset       VARCHAR  full name of the dataset now; null when it is not known any more
-- version       BIGINT   number of the published version as which it was read, else of the first that the state became; null: none
-- table_version BIGINT   Delta's version number
-- reference     VARCHAR  as it was asked for
-- opens         BIGINT   how often it was opened
-- bytes         BIGINT   size of the state's data files: no more than that was read by one opening
-- rows          BIGINT   rows of the state; null when the files' statistics do not say
-- host          VARCHAR  the machine
-- process       BIGINT   the process's id there
-- dataset_id    VARCHAR  the dataset's identity
with spooled as (
    -- Read before the folded ones: what is folded in between is in both, and counted once.
    select * from lake.spooled_reads
), folded as (
    select * from lake.fact_reads
), noted as (
    select * from folded
    union all by name
    select * from spooled where spool not in (select spool from folded)
), dataset as (
    select value ->> 'dataset_id' as dataset_id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
), published as (
    select dataset_id, table_version, min(version) as version
    from lake.versions
    group by all
)
select
    n."at",
    n.actor,
    n.consumer,
    d.full_name as dataset,
    coalesce(n.version, p.version) as version,
    n.table_version,
    n.reference,
    n.opens,
    n.bytes,
    n.rows,
    n.host,
    n.process,
    n.dataset_id
from noted n
left join dataset d on d.dataset_id = n.dataset_id
left join published p on p.dataset_id = n.dataset_id and p.table_version = n.table_version
order by n."at" desc, n.reference
