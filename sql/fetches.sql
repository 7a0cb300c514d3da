-- fetches: what consumers read, one row for each state and each consumer.
--
-- dataset       VARCHAR  full name of the dataset now; null when it is not known any more
-- version       BIGINT   number of the published version; null when that state is none
-- table_version BIGINT   Delta's version number
-- consumer      VARCHAR  what read: $LAKEHOUSE_CONSUMER, else the name of the program
-- opens         BIGINT   how often it was opened
-- actors        VARCHAR[]  who read
-- first_at, last_at TIMESTAMP WITH TIME ZONE  when it was opened first, and last to within a minute
-- bytes         BIGINT   size of the state's data files times openings: no more than that was read
-- dataset_id    VARCHAR  the dataset's identity
select
    dataset,
    version,
    table_version,
    consumer,
    cast(sum(opens) as bigint) as opens,
    list_sort(list(distinct actor)) as actors,
    min("at") as first_at,
    max("at") as last_at,
    cast(sum(bytes * opens) as bigint) as bytes,
    dataset_id
from lake.reads
group by dataset, version, table_version, consumer, dataset_id
order by dataset, table_version, consumer
