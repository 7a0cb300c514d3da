-- holds: the datasets under a legal hold, one row each: nothing of them expires, is cleaned up or erased.
--
-- dataset    VARCHAR  full name when the hold was set
-- dataset_id VARCHAR  the dataset's identity
-- reason     VARCHAR  why, in the words of who set it
-- created_at TIMESTAMP WITH TIME ZONE  when it was set
-- created_by VARCHAR  who set it
with hold as (
    select unnest(from_json(value, '{
        "dataset_id": "VARCHAR", "full_name": "VARCHAR", "reason": "VARCHAR", "created_at": "TIMESTAMPTZ",
        "created_by": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'hold'
)
select full_name as dataset, dataset_id, reason, created_at, created_by
from hold
order by dataset, created_at
