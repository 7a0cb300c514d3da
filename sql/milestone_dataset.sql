-- milestone_dataset: the datasets of each row of the view Milestone.
--
-- Milestone_ID    VARCHAR  as in Milestone: `spring/v2`
-- Dataset_Name    VARCHAR  name of the dataset, with its namespace unless that is `main`
-- Dataset_Version BIGINT   its published version; null when a pending milestone version still waits for one
-- Data_Tag        VARCHAR  the data tag of that version; null without one
-- Ready_Flag      VARCHAR  'Y' for all datasets of a published version; 'N' for those that a pending one waits for
select
    if(milestone[:5] = 'main.', milestone[6:], milestone) || '/v' || milestone_version as "Milestone_ID",
    if(dataset[:5] = 'main.', dataset[6:], dataset) as "Dataset_Name",
    version as "Dataset_Version",
    data_tag as "Data_Tag",
    if(ready, 'Y', 'N') as "Ready_Flag"
from lake.milestone_datasets
