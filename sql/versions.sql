-- versions: every published version of every dataset, one row each.
--
-- dataset       VARCHAR    full name of its dataset now
-- version       BIGINT     its number: 3 for `@v3`
-- table_version BIGINT     Delta's version number, for `@#57`
-- data_tag      VARCHAR    DRAFT, REVIEWED, FINAL, ...
-- tags          VARCHAR[]  movable tags that point at it now; empty when there is none
-- rows, files, bytes BIGINT  size of the state: data files only, bytes as stored
-- message       VARCHAR    the publisher's words; '' when there are none
-- created_at    TIMESTAMP WITH TIME ZONE  time of publication
-- created_by    VARCHAR    who published
-- run           VARCHAR    the run that published; null when a person did
-- dataset_id    VARCHAR    the dataset's identity
-- notice        VARCHAR    why it should not be used any more; '' when nothing is against it
-- withdrawn     BOOLEAN    whether it can be read no more, but through what pinned it before
-- noticed_at    TIMESTAMP WITH TIME ZONE  when that was said; null: nothing was
-- noticed_by    VARCHAR    who said it
-- expired_at    TIMESTAMP WITH TIME ZONE  when it was given up by `expire`; null: it is kept
with version as (
    select unnest(from_json(value, '{
        "series": "VARCHAR", "number": "BIGINT", "dataset_id": "VARCHAR", "full_name": "VARCHAR",
        "table_version": "BIGINT", "data_tag": "VARCHAR", "message": "VARCHAR", "rows": "BIGINT", "files": "BIGINT",
        "bytes": "BIGINT", "created_at": "TIMESTAMPTZ", "created_by": "VARCHAR", "run": "VARCHAR",
        "notice": "VARCHAR", "withdrawn": "BOOLEAN", "noticed_at": "TIMESTAMPTZ", "noticed_by": "VARCHAR",
        "expired_at": "TIMESTAMPTZ"}'))
    from lake.ledger_state
    where entity = 'version'
), dataset as (
    select value ->> 'dataset_id' as id, (value ->> 'namespace') || '.' || (value ->> 'name') as full_name
    from lake.ledger_state
    where entity = 'dataset'
), tag as (
    select
        value ->> 'series' as series,
        cast(value ->> 'number' as bigint) as number,
        list(value ->> 'name' order by value ->> 'name') as tags
    from lake.ledger_state
    where entity = 'tag'
    group by all
)
select
    coalesce(d.full_name, v.full_name) as dataset,
    v.number as version,
    v.table_version,
    v.data_tag,
    coalesce(t.tags, []) as tags,
    v.rows,
    v.files,
    v.bytes,
    v.message,
    v.created_at,
    v.created_by,
    v.run,
    v.dataset_id,
    coalesce(v.notice, '') as notice,
    coalesce(v.withdrawn, false) as withdrawn,
    v.noticed_at,
    coalesce(v.noticed_by, '') as noticed_by,
    v.expired_at
from version v
left join dataset d on d.id = v.dataset_id
left join tag t on t.series = v.series and t.number = v.number
order by dataset, version
