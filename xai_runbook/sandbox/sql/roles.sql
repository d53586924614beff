-- The roles of the application. Those of the runbook are xai_runbook/sql/roles/. Passwords are set at each start of a
-- sandbox; the template has none.
CREATE ROLE xai_owner LOGIN;
CREATE ROLE xai_app LOGIN;
