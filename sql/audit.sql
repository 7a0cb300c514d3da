-- audit: who decided and who wrote what, one row for each decision and each data commit, newest first.
-- The log of every dataset is read for it; `lakehouse audit log photos` reads that of one.
--
-- at        TIMESTAMP WITH TIME ZONE  when
-- actor     VARCHAR  who; null for a commit of another program that does not say
-- kind      VARCHAR  decision or commit
-- action    VARCHAR  dataset.create, version.publish, ...; of commits data.append, data.merge, ...
-- resource  VARCHAR  what it is about, by the name that it has now: main.photos@v3; of commits main.photos@#5
-- before    JSON     the thing before the decision; null for what was new, and for commits
-- after     JSON     the thing since; null when it was removed; of commits {rows_added, rows_removed, rows_updated}
-- run       VARCHAR  the run that did it; null when a person did
-- message   VARCHAR  the words given with it; null when there are none
-- commit_id VARCHAR  what was decided together has the same; null for data commits, which are told apart by their resource
-- seq       BIGINT   number of the ledger commit; null for data commits
with dataset as (
    select value ->> 'dataset_id' as dataset_id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
), logged as (
    from lake.log_tails
), written as (
    from logged
    union all by name
    -- Two clean-ups may have recorded a commit; where the log still has it, the log tells.
    select distinct on (dataset_id, table_version) * from lake.fact_commits f
    anti join logged l on l.dataset_id = f.dataset_id and l.table_version = f.table_version
), entry as (
    select "at", actor, 'decision' as kind, action, resource, "before", "after", run, message, commit_id, seq, position
    from lake.decisions
    union all
    select
        -- As the log shows it: never earlier than the commit before.
        max(created_at) over (partition by w.dataset_id order by table_version),
        "user",
        'commit',
        'data.' || replace(lower(operation), ' ', '_'),
        d.full_name || '@#' || table_version,
        null,
        json_object('rows_added', rows_added, 'rows_removed', rows_removed, 'rows_updated', rows_updated),
        run,
        message,
        null,
        null,
        table_version
    from written w
    join dataset d using (dataset_id)
)
select "at", actor, kind, action, resource, "before", "after", run, message, commit_id, seq
from entry
order by "at" desc, seq desc, position desc
