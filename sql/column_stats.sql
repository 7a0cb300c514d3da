-- column_stats: statistics of the columns of states, one row for each column; computed when first asked for.
--
-- dataset       VARCHAR  full name of the dataset
-- table_version BIGINT   Delta's version number of the state
-- version       BIGINT   number of the newest version published of it; null for none
-- column_name   VARCHAR
-- type          VARCHAR  Arrow's name of the type
-- rows, nulls   BIGINT
-- distinct_values BIGINT approximate number of distinct values; null of nested columns, as all that follows
-- min, max      JSON     without NaN and infinities; times are ISO texts
-- mean, std     DOUBLE   of numbers, and of booleans as 0 and 1; std is that of the population
-- quantiles     JSON     list of [share, value], approximate
-- top           JSON     list of [value, rows]: the most frequent values of texts, booleans and integers
-- histogram     JSON     exponent, bins [[n, rows]]: values from n * 2^exponent on; times in seconds, texts by length
-- length_min, length_max BIGINT  of texts, in characters
-- length_mean   DOUBLE
-- at            TIMESTAMP WITH TIME ZONE  when it was computed
-- dataset_id    VARCHAR  the dataset's identity
with dataset as (
    select value ->> 'dataset_id' as id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
),
version as (
    select
        value ->> 'dataset_id' as dataset_id,
        cast(value ->> 'table_version' as bigint) as table_version,
        max(cast(value ->> 'number' as bigint)) as number
    from lake.ledger_state
    where entity = 'version' and value ->> 'expired_at' is null
    group by all
)
select
    d.full_name as dataset,
    c.table_version,
    v.number as version,
    c.column_name,
    c."type",
    c."rows",
    c.nulls,
    c."distinct" as distinct_values,
    cast(c."min" as json) as "min",
    cast(c."max" as json) as "max",
    c.mean,
    c.std,
    cast(c.quantiles as json) as quantiles,
    cast(c.top as json) as top,
    cast(c.histogram as json) as histogram,
    c.length_min,
    c.length_max,
    c.length_mean,
    c."at",
    c.dataset_id
from lake.fact_column_stats c
left join dataset d on d.id = c.dataset_id
left join version v using (dataset_id, table_version)
order by dataset, c.table_version, c.position
