//! Who sees which rows: once as the policy that the database enforces on live reads, once as a function for rows that never
//! were in the database. Both say the same; a test compares them row by row.

use serde_json::Value;

use crate::{
    projection::{Visibility, tenant_to_uuid},
    queries::ReadScope,
};

/// The policy of the application role, as a condition on a row. Sub-selects, so that a setting is read once per query and not
/// once per row.
pub fn policy(visibility: Visibility) -> String {
    let setting = |name: &str| format!("(select nullif(current_setting('smartpos.{name}', true), ''))");
    let tenant = "tenant = (select nullif(current_setting('smartpos.tenant', true), '')::uuid)";
    let store = format!("({0} is null or store_id is null or store_id = {0})", setting("store"));
    let psp = format!("psp_id = {}", setting("psp"));
    match visibility {
        Visibility::Store => format!("{tenant} and {store}"),
        Visibility::StoreAndPsp => format!("({tenant} and {store}) or {psp}"),
        Visibility::Tenant => tenant.to_owned(),
        Visibility::TenantAndPsp => format!("{tenant} or {psp}"),
    }
}

/// Whether `scope` sees a row, given as the JSON object that the fold makes of it: what [`policy`] says in SQL.
pub fn sees(visibility: Visibility, scope: &ReadScope, row: &Value) -> bool {
    let is = |column: &str, wanted: String| row.get(column).and_then(Value::as_str) == Some(wanted.as_str());
    let no_store = || row.get("store_id").is_none_or(Value::is_null);
    let tenant = || scope.tenant.is_some_and(|tenant| is("tenant", tenant_to_uuid(tenant).to_string()));
    let store = || scope.store.is_none_or(|store| no_store() || is("store_id", store.to_string()));
    let psp = || scope.psp.is_some_and(|psp| is("psp_id", psp.to_string()));
    match visibility {
        Visibility::Store => tenant() && store(),
        Visibility::StoreAndPsp => (tenant() && store()) || psp(),
        Visibility::Tenant => tenant(),
        Visibility::TenantAndPsp => tenant() || psp(),
    }
}
