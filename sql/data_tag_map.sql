-- data_tag_map: what data tags mean to consumers.
--
-- Data_Tag            VARCHAR  DRAFT, REVIEWED, FINAL, or a word of yours
-- Milestone_Attribute VARCHAR  the column of Milestone that is 'Y' for versions with this data tag
-- Color               VARCHAR  how they are shown
with data_tag as (
    select unnest(from_json(value, '{"name": "VARCHAR", "attribute": "VARCHAR", "color": "VARCHAR"}'))
    from lake.ledger_state
    where entity = 'data_tag'
)
select name as "Data_Tag", attribute as "Milestone_Attribute", color as "Color"
from data_tag
