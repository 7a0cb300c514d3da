-- lineage: which states were made from which, one row for each pair of an output and an input of a run.
-- A run that read no dataset has one row for each output, with nulls for the input.
--
-- output_dataset, output_dataset_id VARCHAR  what was written
-- output_table_version BIGINT  the newest state that the run wrote
-- run, job             VARCHAR  what wrote it
-- input_dataset, input_dataset_id VARCHAR  what was read
-- input_table_version  BIGINT  the state that was read
-- source               VARCHAR  where data from outside the lakehouse came from; null when there was none
with run as (
    select
        run,
        job,
        started_at,
        parameters ->> 'source' as source,
        from_json(outputs, '[{"dataset": "VARCHAR", "dataset_id": "VARCHAR", "table_version": "BIGINT"}]') as outputs,
        from_json(inputs, '[{"dataset": "VARCHAR", "dataset_id": "VARCHAR", "table_version": "BIGINT"}]') as inputs
    from lake.runs
), written as (
    -- A null in place of the inputs makes the one row of a run that has none.
    select run, job, started_at, source, unnest(outputs) as o, if(len(inputs) > 0, inputs, [null]) as inputs
    from run
), pair as (
    select run, job, started_at, source, o, unnest(inputs) as i
    from written
)
select
    o.dataset as output_dataset,
    o.dataset_id as output_dataset_id,
    o.table_version as output_table_version,
    run,
    job,
    i.dataset as input_dataset,
    i.dataset_id as input_dataset_id,
    i.table_version as input_table_version,
    source
from pair
order by started_at desc, run, output_dataset, input_dataset
