-- rejects: input items and rows that were not taken, or were taken with a warning, one row for each finding.
--
-- run         VARCHAR  the run that met it
-- dataset, dataset_id VARCHAR  where it was meant to go
-- source      VARCHAR  what was being ingested
-- item        VARCHAR  the file, member or image; null when the source is one table
-- line        BIGINT   line of a text file, the first is 1; null elsewhere
-- column_name VARCHAR  the column, of a repeated key all of its columns: a, b; null when the whole item is meant
-- code        VARCHAR  what is wrong, as a stable code: image_truncated, type_mismatch, ...
-- severity    VARCHAR  reject: it was left out; warning: it was taken
-- reason      VARCHAR  the same for a person
-- value       VARCHAR  the value that is wrong, as text, at most 1 kB, of several columns as JSON; null when none is
-- rule        VARCHAR  what it breaks: `type int64`, `not null`, ...; null for whole items
-- at          TIMESTAMP WITH TIME ZONE
select run, dataset, dataset_id, source, item, line, column_name, code, severity, reason, value, rule, "at"
from lake.fact_rejects
order by "at" desc, run, item, line
