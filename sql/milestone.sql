-- milestone: milestone versions as consumers filter them: `select * from Milestone where IS_FINAL = 'Y'`.
--
-- Milestone_ID   VARCHAR  identifies the version and reads as a reference: `spring/v2`, `ns.spring/v2`
-- Milestone_Name VARCHAR  name of the milestone, with its namespace unless that is `main`
-- Version_Number BIGINT   number of the version
-- Attribute      VARCHAR  what the members' data tag means, such as IS_FINAL; null while the members' differ
-- Color          VARCHAR  its colour; null as above
-- Publish_Date   TIMESTAMP WITH TIME ZONE  null while the version is awaited
-- Status         VARCHAR  Pending, Ready, Published or Archived
-- IS_DRAFT, IS_REVIEWED, IS_FINAL VARCHAR  'Y' for published versions whose Attribute it is, else 'N'
-- There is a column for each data tag, named by its attribute: they follow Data_Tag_Map, which begins with these three.
with version as (
    select *, if(milestone[:5] = 'main.', milestone[6:], milestone) as name
    from lake.milestones
    where version is not null
)
select
    name || '/v' || version as "Milestone_ID",
    name as "Milestone_Name",
    version as "Version_Number",
    attribute as "Attribute",
    color as "Color",
    published_at as "Publish_Date",
    status as "Status",
    /* each data tag: if(status = 'Published' and lower(attribute) = lower('{attribute}'), 'Y', 'N') as "{attribute}", */
from version
order by "Milestone_Name", "Version_Number"
