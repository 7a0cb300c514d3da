-- runs: every execution of a job, one row each, newest first.
--
-- run          VARCHAR  id; commits and rejects carry it
-- job          VARCHAR  ingest, features.image, ...
-- status       VARCHAR  running (or its process died), succeeded or failed
-- started_at, finished_at TIMESTAMP WITH TIME ZONE  finished_at is null while it runs
-- actor        VARCHAR  who started it
-- code_version VARCHAR  what code ran
-- parameters   JSON     object: as given
-- inputs       JSON     list of {dataset, dataset_id, table_version}: the states that it read
-- outputs      JSON     the same: the newest state of each dataset that it wrote
-- counts       JSON     object: what it counted, such as ingested or rejected
-- error        VARCHAR  why it failed; null otherwise, also when it failed first and was resumed to its end
--
-- A run is recorded as events; the newest value of each column counts.
select
    run,
    arg_max(job, "at") as job,
    case arg_max(event, "at") when 'started' then 'running' when 'finished' then 'succeeded' else 'failed' end as status,
    min("at") as started_at,
    max("at") filter (where event <> 'started') as finished_at,
    arg_max(actor, "at") as actor,
    arg_max(code_version, "at") as code_version,
    cast(arg_max(parameters, "at") as json) as parameters,
    cast(arg_max(inputs, "at") as json) as inputs,
    cast(arg_max(outputs, "at") as json) as outputs,
    cast(arg_max(counts, "at") as json) as counts,
    case when arg_max(event, "at") = 'failed' then arg_max(error, "at") end as error
from lake.fact_runs
group by run
order by started_at desc, run
