-- tokens: the tokens that prove who acts, one row each, without their secrets.
-- Where access is controlled, these are one's own; an admin of the lakehouse sees all.
--
-- token_id    VARCHAR  its id, by which it is revoked
-- principal   VARCHAR  whom it stands for
-- description VARCHAR  what it is for; '' when nothing was said
-- created_at  TIMESTAMP WITH TIME ZONE  when it was made
-- created_by  VARCHAR  who made it
-- expires_at  TIMESTAMP WITH TIME ZONE  until when it holds
-- revoked_at  TIMESTAMP WITH TIME ZONE  when it was revoked; null: it was not
with token as (
    select unnest(from_json(value, '{
        "token_id": "VARCHAR", "principal": "VARCHAR", "description": "VARCHAR", "created_at": "TIMESTAMPTZ",
        "created_by": "VARCHAR", "expires_at": "TIMESTAMPTZ", "revoked_at": "TIMESTAMPTZ"}'))
    from lake.ledger_state
    where entity = 'token'
)
select token_id, principal, description, created_at, created_by, expires_at, revoked_at
from token
order by created_at, token_id
