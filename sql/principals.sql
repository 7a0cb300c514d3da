-- principals: the people and services that roles can be granted to, one row each.
-- Who is no admin of the lakehouse sees himself, where access is controlled.
--
-- name        VARCHAR  as the operating system, a token or an identity provider calls it
-- kind        VARCHAR  person or service
-- description VARCHAR  who or what it is; '' when nothing was said
-- created_at  TIMESTAMP WITH TIME ZONE  when it was added
-- created_by  VARCHAR  who added it
with principal as (
    select unnest(from_json(value, '{
        "name": "VARCHAR", "kind": "VARCHAR", "description": "VARCHAR", "created_at": "TIMESTAMPTZ",
        "created_by": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'principal'
)
select name, kind, description, created_at, created_by
from principal
order by name
